"""The contract of `Images`, over both ways of storing them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from oneshot.data import FileImages, FileSource, Images, TensorImages, image_folder
from oneshot.data.decoding import CorruptImages, decode_all

SIZE = 8


@pytest.fixture
def source(make_folder: Callable[[dict[str, int]], Path]) -> FileSource:
    root = make_folder({"a": 7, "b": 5})
    return FileSource([(str(path), int(path.parent.name == "b")) for path in sorted(root.glob("*/*"))])


@pytest.fixture(params=["tensor", "file", "file with workers"])
def images(request: pytest.FixtureRequest, source: FileSource) -> Images:
    if request.param == "tensor":
        return decode_all(source, torch.arange(len(source)), SIZE, CorruptImages(0))
    return FileImages(source, SIZE, num_workers=2 if "workers" in request.param else 0)


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


def test_lazy_decoding_leaves_the_global_generator_alone(source: FileSource) -> None:
    state = torch.get_rng_state()
    list(FileImages(source, SIZE, num_workers=1).batches([torch.arange(4)]))
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
    ("mode", "pixels", "expected"),
    [
        ("L", np.full((4, 4), 77, np.uint8), 77),
        ("I;16", np.full((4, 4), 77 * 256, np.uint16), 77),
        ("RGBA", np.full((4, 4, 4), 77, np.uint8), 77),
        ("1", np.ones((4, 4), bool), 255),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, pixels: np.ndarray, expected: int) -> None:
    image = Image.fromarray(pixels)
    assert image.mode == mode
    image.save(tmp_path / "x.png")
    decoded = decode_all(FileSource([(str(tmp_path / "x.png"), 0)]), torch.tensor([0]), 4, CorruptImages(0))
    assert (decoded.images == expected).all()


def test_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).convert("P")
    image.save(tmp_path / "x.png", transparency=bytes(range(16)))
    decoded = decode_all(FileSource([(str(tmp_path / "x.png"), 0)]), torch.tensor([0]), 4, CorruptImages(0))
    assert torch.equal(decoded.images[0, 0].flatten(), torch.arange(16, dtype=torch.uint8))


def test_large_jpegs_are_close_to_the_exact_resize(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    Image.fromarray(
        np.stack([np.tile(ramp, (300, 1)), np.tile(ramp[::-1], (300, 1)), np.full((300, 400), 128, np.uint8)], 2)
    ).save(tmp_path / "x.jpg", quality=95)
    source = FileSource([(str(tmp_path / "x.jpg"), 0)])
    decoded = decode_all(source, torch.tensor([0]), SIZE, CorruptImages(0)).images[0]
    assert (decoded.int() - reference(source.keys[0]).int()).abs().max() <= 3


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
