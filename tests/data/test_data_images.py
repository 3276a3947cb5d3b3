"""The contract of `Images`, over both ways of storing them."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from oneshot.data import Augmentation, FileImages, FileSource, Images, TensorImages, augment, image_folder
from oneshot.data.decoding import CorruptImages, decode_all
from oneshot.data.preprocessing import Preprocessing
from oneshot.processes import Share

SIZE = 8


@pytest.fixture
def source(make_folder: Callable[[dict[str, int]], Path]) -> FileSource:
    root = make_folder({"a": 7, "b": 5})
    return FileSource([(str(path), int(path.parent.name == "b")) for path in sorted(root.glob("*/*"))])


@pytest.fixture(params=["tensor", "file", "file with workers"])
def images(request: pytest.FixtureRequest, source: FileSource) -> Images:
    if request.param == "tensor":
        return decode_all(source, torch.arange(len(source)), Preprocessing(SIZE), CorruptImages(0))
    return FileImages(source, Preprocessing(SIZE), num_workers=2 if "workers" in request.param else 0)


def reference(path: str) -> torch.Tensor:
    square = transforms.Compose(
        [transforms.Resize(SIZE, interpolation=Image.Resampling.BICUBIC), transforms.CenterCrop(SIZE)]
    )
    return torch.from_numpy(np.asarray(square(Image.open(path).convert("RGB"))).copy()).permute(2, 0, 1)


def test_batches_follow_the_given_indices(images: Images, source: FileSource) -> None:
    order = [torch.tensor([3, 0, 11]), torch.tensor([3]), torch.tensor([], dtype=torch.int64)[:0], torch.tensor([9, 8])]
    order.pop(2)
    batches = list(images.batches(order))
    assert [len(labels) for _, labels in batches] == [3, 1, 2]
    for indices, (pixels, labels) in zip(order, batches, strict=True):
        assert pixels.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert torch.equal(pixels, torch.stack([reference(source.keys[i]) for i in indices]))
        assert torch.equal(labels, (indices >= 7).long())


def test_subset_keeps_keys_labels_and_pixels(images: Images) -> None:
    chosen = torch.tensor([10, 2, 5])
    subset = images.subset(chosen).subset(torch.tensor([2, 0]))
    assert len(subset) == 2
    assert subset.image_size == images.image_size == SIZE
    assert subset.keys == (images.keys[5], images.keys[10])
    assert subset.labels.tolist() == [0, 1]
    (expected, _), (got, _) = next(images.batches([torch.tensor([5, 10])])), next(subset.batches([torch.arange(2)]))
    assert torch.equal(got, expected)


def generators(number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(number)]


CROPS = Augmentation(crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3))
BATCHES = [torch.tensor([3, 0, 11]), torch.tensor([3]), torch.tensor([9, 8, 8, 1])]


@pytest.mark.parametrize("stored", [None, SIZE, 9, 40])
def test_crops_depend_on_the_generators_alone(source: FileSource, stored: int | None) -> None:
    preprocessing = Preprocessing(SIZE, 0.9, stored_size=stored)
    every = torch.arange(len(source))
    sets: list[Images] = [FileImages(source, preprocessing, num_workers=number) for number in (0, 2)]
    sets.append(decode_all(source, every, preprocessing, CorruptImages(0), keep_whole=True))
    sets += [images.subset(every.flip(0)).subset(every.flip(0)) for images in sets]
    first, *others = [list(images.training_batches(BATCHES, CROPS, generators(3))) for images in sets]
    assert [len(labels) for _, labels in first] == [3, 1, 4]
    for other in others:
        for (pixels, labels), (expected, expected_labels) in zip(other, first, strict=True):
            assert torch.equal(pixels, expected)
            assert torch.equal(labels, expected_labels)
    again = list(sets[0].training_batches(BATCHES[1:], CROPS, generators(3)[1:]))  # as a continued run asks for them
    assert torch.equal(again[0][0], first[1][0])
    changed = next(sets[0].training_batches(BATCHES, CROPS, generators(3)[1:]))[0]
    assert not torch.equal(changed, first[0][0])
    assert not torch.equal(first[2][0][1], first[2][0][2])  # one image twice in a batch: two crops


def test_without_resized_crops_training_begins_with_the_centres(images: Images) -> None:
    expected = list(images.batches(BATCHES))
    for got, wanted in zip(images.training_batches(BATCHES, Augmentation(2), iter(())), expected, strict=True):
        assert torch.equal(got[0], wanted[0])
        assert torch.equal(got[1], wanted[1])


def test_memory_counts_what_is_stored(make_folder: Callable[[dict[str, int]], Path]) -> None:
    root = make_folder({"train/a": 10, "train/b": 10, "test/a": 5, "test/b": 5})  # 16 training images of 12x10
    centres, whole = 30 * 3 * SIZE**2, 16 * 3 * 12 * 10

    def load(num_bytes: float, **options: object) -> Images:
        data = image_folder(root, image_size=SIZE, memory_limit_gb=num_bytes / 1e9, num_workers=0, **options)  # type: ignore[arg-type]
        return data.train

    stored = load(centres + whole)
    assert isinstance(stored, TensorImages)
    assert stored.num_bytes == whole + 16 * 3 * SIZE**2
    assert isinstance(load(centres + whole - 1), FileImages)
    assert isinstance(load(centres, augmentation=Augmentation(1)), TensorImages)
    assert isinstance(load(centres - 1, augmentation=Augmentation(1)), FileImages)
    reduced = load(1e9, stored_size=SIZE)
    assert isinstance(reduced, TensorImages)
    assert reduced.num_bytes == 16 * 3 * (10 * 8 + SIZE**2)


def test_images_of_the_asked_size_are_stored_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.effect_noise((SIZE, SIZE), 80).save(tmp_path / name / f"{number}.png")
    data = image_folder(tmp_path, image_size=SIZE)
    assert data.crop_pct == 1.0
    assert isinstance(data.train, TensorImages)
    assert data.train.whole is None
    for key, pixels in zip(data.train.keys, data.train.images, strict=True):
        assert (pixels.numpy() == np.asarray(Image.open(key))).all()


def test_workers_start_once(source: FileSource) -> None:
    """Also where somebody stops in the middle, and for training and evaluation alike."""
    images = FileImages(source, Preprocessing(SIZE), num_workers=2)
    asked = list(torch.arange(12).split(4))
    before = {process.pid for process in multiprocessing.active_children()}
    expected = [pixels for pixels, _ in images.batches(asked)]
    workers = {process.pid for process in multiprocessing.active_children()} - before
    assert len(workers) == 2
    for _ in range(2):
        again = images.training_batches(asked, Augmentation(), iter(()))
        assert all(torch.equal(pixels, wanted) for (pixels, _), wanted in zip(again, expected, strict=True))
    assert {process.pid for process in multiprocessing.active_children()} - before == workers
    halfway, whole = images.batches(asked), images.batches(asked[:2])
    next(halfway)
    assert len(list(whole)) == 2
    assert torch.equal(next(halfway)[0], expected[1])


def test_a_share_of_a_batch_is_its_rows(images: Images) -> None:
    """Crops, flips, shifts and erased parts are those that the rows have in the whole batch."""
    augmentation = Augmentation(1, (0.3, 1.0), (0.5, 2.0), True, 0.5)
    asked = [torch.tensor([3, 0, 11, 5, 7])]

    def batch(share: Share | None) -> torch.Tensor:
        drawn = iter([torch.Generator().manual_seed(1)])
        ((pixels, _),) = images.training_batches(asked, augmentation, drawn, share)
        return augment(pixels, augmentation, torch.Generator().manual_seed(2), share)

    parts = [batch(Share(start, stop, 5)) for start, stop in ((0, 2), (2, 3), (3, 5))]
    assert torch.equal(torch.cat(parts), batch(None))


def test_lazy_decoding_leaves_the_global_generator_alone(source: FileSource) -> None:
    state = torch.get_rng_state()
    list(FileImages(source, Preprocessing(SIZE), num_workers=1).batches([torch.arange(4)]))
    assert torch.equal(torch.get_rng_state(), state)


def test_both_storages_of_one_folder_agree(make_folder: Callable[[dict[str, int]], Path]) -> None:
    root = make_folder({"a": 12, "b": 9})
    memory = image_folder(root, image_size=SIZE)
    lazy = image_folder(root, image_size=SIZE, memory_limit_gb=0, num_workers=0)
    assert isinstance(memory.train, TensorImages)
    assert isinstance(lazy.train, FileImages)
    assert memory.mean == lazy.mean
    assert memory.std == lazy.std
    for split in ("train", "held_out", "test"):
        eager_set, lazy_set = getattr(memory, split), getattr(lazy, split)
        assert eager_set.keys == lazy_set.keys
        every = [torch.arange(len(eager_set))]
        for got, expected in zip(next(lazy_set.batches(every)), next(eager_set.batches(every)), strict=True):
            assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), r"must be uint8 of shape .*, got torch.float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), r"shape \(2, 1, 4, 4\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2), "height 4 and width 5"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3), "2 images, 3 labels"),
    ],
)
def test_malformed_tensors_are_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorImages(images, labels)
