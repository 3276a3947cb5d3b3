"""Corrupt images: skipped, counted and named up to the limit, refused beyond it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from oneshot.data import Augmentation, FileImages, FileSource, image_folder
from oneshot.data.decoding import CorruptImages
from oneshot.data.preprocessing import Preprocessing

Maker = Callable[[dict[str, int]], Path]


def corrupt(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = root / name
        content = [b"", b"not an image", path.read_bytes()[:60]][number % 3]
        path.write_bytes(content)


@pytest.fixture
def root(make_folder: Maker) -> Path:
    root = make_folder({"train/cat": 8, "train/dog": 8, "test/cat": 3, "test/dog": 3})
    corrupt(root, ["train/cat/1.png", "test/dog/0.png", "train/dog/7.png"])
    return root


def test_in_memory(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = image_folder(root, image_size=8, max_corrupt=3)
    assert data.num_skipped == 3
    kept = {key for images in (data.train, data.held_out, data.test) for key in images.keys}
    assert len(kept) == 19
    for name in ("train/cat/1.png", "test/dog/0.png", "train/dog/7.png"):
        assert str(root / name) not in kept
        assert f"skipping {root / name}, which cannot be decoded: " in caplog.text
    assert len(data.test) == len(data.test.keys) == len(next(data.test.batches([torch.arange(5)]))[0]) == 5
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1]


def test_in_memory_beyond_the_limit(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"3 images cannot be decoded, the last one is .*test/dog/0.png \(.*max_corrupt=2"
    ):
        image_folder(root, image_size=8, max_corrupt=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batch_by_batch(root: Path, num_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    data = image_folder(root, image_size=8, memory_limit_gb=0, num_workers=num_workers, max_corrupt=3, **statistics)
    assert data.num_skipped == 0
    for _ in range(2):  # what is known to be corrupt is not counted again
        batches = list(data.test.batches([torch.tensor([3]), torch.tensor([0, 3, 4]), torch.tensor([5])]))
        assert [labels.tolist() for _, labels in batches] == [[1], [0, 1], [1]]  # never a batch without an image
        assert [len(images) for images, _ in batches] == [1, 2, 1]
    assert caplog.text.count(f"skipping {root / 'test/dog/0.png'}, which cannot be decoded: ") == 1


def test_batch_by_batch_beyond_the_limit(root: Path) -> None:
    data = image_folder(root, image_size=8, memory_limit_gb=0, num_workers=0, max_corrupt=2)
    assert data.num_skipped <= 2  # met while measuring the mean

    def read_everything() -> None:
        for images in (data.train, data.held_out, data.test):
            list(images.batches([torch.arange(len(images))]))

    with pytest.raises(ValueError, match=r"3 images cannot be decoded, the last one is .*\.png \(.*max_corrupt=2"):
        read_everything()


def test_a_set_of_corrupt_images_is_named(make_folder: Maker) -> None:
    root = make_folder({"train/cat": 8, "train/dog": 8, "test/cat": 2, "test/dog": 2})
    corrupt(root, [f"test/{name}/{number}.png" for name in ("cat", "dog") for number in (0, 1)])
    expected = f"none of the 4 test images of {root.name} can be decoded, the first is {root / 'test/cat/0.png'}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        image_folder(root, image_size=8)


def test_the_reason_says_nothing_of_the_inside(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "train/cat/1.png").write_text("no picture")
    image_folder(root, image_size=8)
    reason = "UnidentifiedImageError: no image of a format that Pillow knows"
    assert f"skipping {root / 'train/cat/1.png'}, which cannot be decoded: {reason}" in caplog.messages


def test_a_class_of_corrupt_images_is_named(make_folder: Maker) -> None:
    root = make_folder({"cat": 5, "dog": 3})
    corrupt(root, [f"dog/{index}.png" for index in range(3)])
    with pytest.raises(ValueError, match="class 'dog' has no training image that can be decoded"):
        image_folder(root, image_size=8)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("augmentation", [Augmentation(1), Augmentation(crop_scale=(0.5, 1.0))])
def test_training_batches_keep_their_size(make_folder: Maker, num_workers: int, augmentation: Augmentation) -> None:
    root = make_folder({"cat": 6, "dog": 6})
    corrupt(root, ["cat/1.png", "cat/2.png", "dog/5.png"])
    paths = sorted(root.glob("*/*"))
    source = FileSource([(str(path), int(path.parent.name == "dog")) for path in paths])
    images = FileImages(source, Preprocessing(8), num_workers=num_workers, corrupt=CorruptImages(3))
    # Wholly corrupt, partly, one image, twice the same, and more than there are.
    asked = [[1, 2], [11, 0, 1], [2], [1, 1], [*range(12), *range(3)]]

    def read() -> list[tuple[torch.Tensor, torch.Tensor]]:
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(asked))]
        return list(images.training_batches([torch.tensor(batch) for batch in asked], augmentation, generators))

    batches = read()
    assert [len(pixels) for pixels, _ in batches] == [len(labels) for _, labels in batches] == [2, 3, 1, 2, 15]
    assert batches[0][1].tolist() == [0, 0]
    assert batches[1][1].tolist() == [0, 0, 0]  # after the last image comes the first again, which the batch has
    for (pixels, labels), (again, labels_again) in zip(batches, read(), strict=True):
        assert torch.equal(pixels, again)
        assert torch.equal(labels, labels_again)
    if not augmentation.cuts_from_whole:
        expected = [torch.from_numpy(Preprocessing(8).centre(Image.open(path)).copy()) for path in (paths[3], paths[4])]
        assert torch.equal(batches[0][0], torch.stack(expected))
        assert torch.equal(batches[3][0], torch.stack(expected))


def test_evaluation_batches_leave_out_but_never_below_two(make_folder: Maker) -> None:
    root = make_folder({"cat": 6, "dog": 2})
    corrupt(root, ["cat/1.png", "cat/2.png", "cat/3.png"])
    source = FileSource([(str(path), int(path.parent.name == "dog")) for path in sorted(root.glob("*/*"))])
    images = FileImages(source, Preprocessing(8), num_workers=0, corrupt=CorruptImages(3))
    asked = [torch.arange(8), torch.tensor([1, 2, 3]), torch.tensor([3, 6]), torch.tensor([2])]
    assert [labels.tolist() for _, labels in images.batches(asked)] == [[0, 0, 0, 1, 1], [0, 0], [0, 1], [0]]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_set_without_any_image_is_refused_not_waited_for(make_folder: Maker, num_workers: int) -> None:
    root = make_folder({"cat": 4})
    corrupt(root, [f"cat/{index}.png" for index in range(4)])
    source = FileSource([(str(path), 0) for path in sorted(root.glob("*/*"))])
    for limit, message in (
        (4, "none of the 4 images of a set can be decoded, the first is .*cat/0.png"),
        (2, "max_corrupt=2"),
    ):

        def fresh(max_corrupt: int = limit) -> FileImages:
            return FileImages(source, Preprocessing(8), num_workers=num_workers, corrupt=CorruptImages(max_corrupt))

        with pytest.raises(ValueError, match=message):
            list(fresh().batches([torch.tensor([0, 1])]))
        with pytest.raises(ValueError, match=message):
            list(fresh().training_batches([torch.tensor([0])], Augmentation(), iter(())))


def test_images_of_too_many_pixels_are_counted(
    make_folder: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder({"cat": 6, "dog": 6})
    Image.new("RGB", (40, 40)).save(root / "cat" / "large.png")  # beyond the limit: Pillow warns
    Image.new("RGB", (90, 90)).save(root / "dog" / "larger.qoi")  # beyond twice the limit: Pillow raises
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    data = image_folder(root, image_size=8)
    assert data.num_skipped == 2
    assert f"skipping {root / 'cat' / 'large.png'}, which cannot be decoded: DecompressionBombWarning" in caplog.text
    assert f"skipping {root / 'dog' / 'larger.qoi'}, which cannot be decoded: DecompressionBombError" in caplog.text
