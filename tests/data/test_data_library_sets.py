"""The sets that libraries bring: digits, Fashion-MNIST and CIFAR."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from oneshot.data import FileImages, Images, digits, torchvision_dataset

SPLITS = ("train", "held_out", "test")


def pixels_of(images: Images) -> torch.Tensor:
    return next(images.batches([torch.arange(len(images))]))[0]


def test_digits_are_scikit_learns() -> None:
    data = digits(image_size=8)
    levels, labels = load_digits(return_X_y=True)
    for split in SPLITS:
        images = getattr(data, split)
        indices = [int(key.removeprefix("digits/")) for key in images.keys]
        expected = torch.from_numpy(np.round(levels[indices] * 255 / 16)).view(-1, 1, 8, 8).expand(-1, 3, 8, 8)
        assert torch.equal(pixels_of(images).double(), expected)
        assert images.labels.tolist() == labels[indices].tolist()
    assert (data.name, data.classes) == ("digits", tuple("0123456789"))


def test_digits_are_split_without_overlap_in_proportion() -> None:
    data = digits(image_size=8, held_out=0.2, test=300)
    assert (len(data.train), len(data.held_out), len(data.test)) == (1797 - 359 - 300, 359, 300)
    assert len({key for split in SPLITS for key in getattr(data, split).keys}) == 1797
    contents = [{image.numpy().tobytes() for image in pixels_of(getattr(data, split))} for split in SPLITS]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]
    everything = torch.bincount(torch.as_tensor(load_digits().target)) / 1797
    for split in SPLITS:
        labels = getattr(data, split).labels
        assert (torch.bincount(labels) - everything * len(labels)).abs().max() <= 1.5


def test_digits_enlarge_bilinearly() -> None:
    small, large = digits(image_size=8), digits(image_size=32)
    assert large.train.keys == small.train.keys
    expected = torch.nn.functional.interpolate(pixels_of(small.train)[:50].float(), (32, 32), mode="bilinear")
    assert (pixels_of(large.train)[:50] - expected).abs().max() <= 1


def write_fashion_mnist(root: Path, num_train: int, num_test: int) -> dict[str, np.ndarray]:
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    random, written = np.random.default_rng(0), {}
    for stem, count in (("train", num_train), ("t10k", num_test)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())
        written[stem] = pixels
    return written


@pytest.mark.parametrize("limit", [4, 0])
def test_fashion_mnist(tmp_path: Path, limit: int) -> None:
    written = write_fashion_mnist(tmp_path, 60, 20)
    data = torchvision_dataset("FashionMNIST", tmp_path, image_size=28, memory_limit_gb=limit, num_workers=0)
    assert isinstance(data.test, FileImages) == (limit == 0)
    assert (len(data.train), len(data.held_out), len(data.test)) == (48, 12, 20)
    assert data.test.keys == tuple(f"FashionMNIST/test/{index}" for index in range(20))
    assert torch.equal(pixels_of(data.test)[:, 1], torch.from_numpy(written["t10k"]))
    keys = data.train.keys + data.held_out.keys
    assert sorted(keys) == sorted(f"FashionMNIST/train/{index}" for index in range(60))
    expected = torch.from_numpy(written["train"])[[int(key.split("/")[-1]) for key in data.held_out.keys]]
    assert torch.equal(pixels_of(data.held_out)[:, 2], expected)
    assert torch.bincount(data.held_out.labels, minlength=10).min() >= 1
    assert data.classes[0] == "T-shirt/top"


def write_cifar10(root: Path) -> np.ndarray:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (120, 3072), dtype=np.uint8)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for number, name in enumerate(names):
        entry = {"data": pixels[20 * number : 20 * number + 20], "labels": [index % 10 for index in range(20)]}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{index}" for index in range(10)]}))
    return pixels.reshape(-1, 3, 32, 32)


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar10(tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    data = torchvision_dataset("CIFAR10", str(tmp_path), held_out=10)
    assert (len(data.train), len(data.held_out), len(data.test)) == (90, 10, 20)
    assert torch.equal(pixels_of(data.test), torch.from_numpy(pixels[100:]))
    assert data.classes[3] == "class3"
    assert data.augmentation.crop_padding == 4
    assert data.augmentation.horizontal_flip


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "FashionMNIST"])
def test_missing_files_say_how_to_fetch_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{name} is missing or incomplete in .*data.download=true") as caught:
        torchvision_dataset(name, tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 could not be fetched into .*: no route to host"):
        torchvision_dataset("CIFAR10", tmp_path, download=True)


def test_a_mistyped_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"one of CIFAR10, CIFAR100, FashionMNIST, got 'FashonMNIST'; did you mean 'FashionMNIST'\?"
    ):
        torchvision_dataset("FashonMNIST", tmp_path)
