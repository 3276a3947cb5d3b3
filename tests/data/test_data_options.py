"""Options that all sources share: ranges, messages, conversions."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from oneshot.data import Augmentation, ImageData, digits, image_folder, timm_dataset, torchvision_dataset


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be a whole number of at least 1, got 0"),
        ({"image_size": "32"}, "image_size must be a whole number of at least 1, got '32'"),
        ({"image_size": True}, "image_size must be .* got True"),
        ({"held_out": 0}, "held_out must be a fraction above 0 and below 1, or a number of images, got 0"),
        ({"held_out": 1.0}, "held_out must be .* got 1.0"),
        ({"held_out": None}, "held_out must be .* got None"),
        ({"held_out": 9}, "held_out=9 is less than one image for each of the 10 classes; give at least 10"),
        ({"test": -0.1}, "test must be a fraction above 0 and below 1, or a number of images, got -0.1"),
        ({"test": 1700}, "test=1700 asks for 1700 of 1797 images"),
        ({"split_seed": -1}, "split_seed must be a whole number of at least 0, got -1"),
        ({"max_train_images": 0}, "max_train_images must be a whole number of at least 1, got 0"),
        ({"max_train_images": 9}, "max_train_images=9 is less than one image for each of the 10 classes"),
        (
            {"mean": [0.5, 0.5]},
            r"mean must be three numbers from 0 to 1, of pixel values in \[0, 1\], got \[0.5, 0.5\]",
        ),
        ({"mean": [123.7, 116.3, 103.5]}, "mean must be three numbers from 0 to 1"),
        ({"std": [0.2, 0.0, 0.2]}, "std must be three numbers above 0 to 1"),
        ({"std": [0.2, math.nan, 0.2]}, "std must be three numbers"),
        ({"std": 0.2}, "std must be three numbers .* got 0.2"),
        ({"memory_limit_gb": -1}, "memory_limit_gb must be a number of gigabytes, 0 or more, got -1"),
        ({"max_corrupt": -1}, "max_corrupt must be a whole number of at least 0, got -1"),
        ({"num_workers": 1.5}, "num_workers must be a whole number of at least 0, got 1.5"),
        ({"augmentation": {"crop_padding": 2}}, "augmentation must be a oneshot.data.Augmentation, got"),
        ({"spilt_seed": 3}, r"unknown data option 'spilt_seed' .*; did you mean 'split_seed'\?"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        digits(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "load",
    [
        lambda **options: digits(**options),
        lambda **options: image_folder("x", **options),
        lambda **options: timm_dataset("hfds/x", **options),
        lambda **options: torchvision_dataset("CIFAR10", "x", **options),
    ],
)
def test_every_source_checks_the_common_options_first(load: Callable[..., ImageData]) -> None:
    with pytest.raises(ValueError, match="held_out must be"):
        load(held_out="a lot")
    with pytest.raises(ValueError, match="image_size must be"):
        load(image_size=-3)


def test_statistics_are_those_of_the_training_images_alone() -> None:
    data = digits(image_size=8)
    pixels = next(data.train.batches([torch.arange(len(data.train))]))[0].double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    limited = digits(image_size=8, max_train_images=50)
    assert limited.mean != data.mean


def test_given_statistics_win() -> None:
    data = digits(image_size=8, mean=[0.1, 0.2, 0.3], std=(0.4, 0.5, 1))
    assert data.mean == (0.1, 0.2, 0.3)
    assert data.std == (0.4, 0.5, 1.0)
    assert digits(image_size=8, mean=[0, 0, 0]).mean == (0.0, 0.0, 0.0)


def test_constant_images_can_be_normalised(make_folder: Callable[[dict[str, int]], Path]) -> None:
    from PIL import Image

    root = make_folder({"a": 4, "b": 4})
    for size, path in enumerate(root.glob("*/*"), 8):
        Image.new("RGB", (size, size), (255, 0, 51)).save(path)
    data = image_folder(root, image_size=8)
    assert data.mean == pytest.approx((1.0, 0.0, 0.2))
    assert min(data.std) > 0


def test_importing_the_package_is_light() -> None:
    import subprocess
    import sys

    heavy = "timm torchvision sklearn PIL hydra omegaconf datasets"
    code = f"import sys, oneshot.data; print([m for m in '{heavy}'.split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_augmentation_defaults() -> None:
    assert digits(image_size=8).augmentation == Augmentation(crop_padding=2)
    assert digits(image_size=8, augmentation=Augmentation()).augmentation == Augmentation()
