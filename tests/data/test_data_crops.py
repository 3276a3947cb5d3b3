"""Random resized crops, against torchvision's and timm's."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from oneshot.data import Augmentation, TensorImages
from oneshot.data.cropping import boxes_of, draw_boxes, resized_crops

AREA, RATIO = (0.35, 1.0), (3 / 4, 4 / 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(number: int, height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]) -> torch.Tensor:
    heights, widths = torch.full((number,), height), torch.full((number,), width)
    return boxes_of(draw_boxes(number, generator()), heights, widths, area, ratio)


def smooth(height: int, width: int) -> torch.Tensor:
    small = torch.rand(1, 3, height // 4 + 1, width // 4 + 1, generator=generator(5)) * 255
    return reference.resize(small.to(torch.uint8), [height, width], antialias=True)[0]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 97), (200, 9)])
@pytest.mark.parametrize(("area", "ratio"), [(AREA, RATIO), ((0.08, 1.0), RATIO), ((0.9, 1.0), (0.3, 0.5))])
def test_boxes_are_distributed_as_torchvisions_and_timms(
    height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> None:
    number = 2000
    ours = boxes(number, height, width, area, ratio).double()
    assert (ours[:2] >= 0).all()
    assert (ours[2:] >= 1).all()
    assert (ours[0] + ours[2] <= height).all()
    assert (ours[1] + ours[3] <= width).all()
    image, pil = torch.empty(3, height, width), Image.new("L", (width, height))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        torchvisions = [RandomResizedCrop.get_params(image, list(area), list(ratio)) for _ in range(number)]
        timms = [RandomResizedCropAndInterpolation.get_params(pil, area, ratio) for _ in range(number)]
    for their in (torchvisions, timms):
        for own, other in zip(ours, torch.tensor(their).T.double(), strict=True):
            tolerance = 0.5 + 5 * other.std().item() / number**0.5
            assert own.mean().item() == pytest.approx(other.mean().item(), abs=tolerance)
            assert own.std().item() == pytest.approx(other.std().item(), abs=tolerance)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [16, 40, 96])
def test_given_the_boxes_pixels_are_torchvisions_and_close_to_timms(size: int, interpolation: str) -> None:
    image = smooth(60, 85)
    found = boxes(40, 60, 85, AREA, RATIO)
    got = resized_crops([image] * 40, found, size, interpolation)
    kernel = {"bicubic": reference.InterpolationMode.BICUBIC, "bilinear": reference.InterpolationMode.BILINEAR}
    pil = Image.fromarray(image.permute(1, 2, 0).numpy())
    off = []
    for crop, (top, left, height, width) in zip(got, found.T.tolist(), strict=True):
        box = (top, left, height, width)
        expected = reference.resized_crop(image, *box, [size, size], kernel[interpolation], antialias=True)
        assert torch.equal(crop, expected)
        timms = np.asarray(
            reference.resized_crop(pil, *box, [size, size], kernel[interpolation])
        )  # its get_params, then this
        off.append(np.abs(crop.permute(1, 2, 0).numpy().astype(int) - timms))
    assert np.max(off) <= 3  # weights of 16 bits here, of 32 in Pillow
    assert np.mean(np.array(off) > 1) < 1e-3


def test_crops_reach_the_borders_of_images_that_are_not_square() -> None:
    whole = torch.zeros(3, 32, 96, dtype=torch.uint8)
    whole[:, :, :3], whole[:, :, -3:] = 255, 128  # the centre square sees neither
    images = TensorImages(whole[None, :, :, 32:64], torch.tensor([0]), whole=[whole])
    settings = Augmentation(crop_scale=(0.35, 1.0), crop_ratio=(3 / 4, 4 / 3))
    crops = next(images.training_batches([torch.zeros(1000, dtype=torch.int64)], settings, [generator()]))[0]
    assert crops.shape == (1000, 3, 32, 32)
    assert 10 <= (crops[:, :, :, 0] == 255).flatten(1).any(1).sum() <= 300
    assert 10 <= (crops[:, :, :, -1] == 128).flatten(1).any(1).sum() <= 300


def test_a_crop_of_everything_is_the_image() -> None:
    pixels = torch.randint(0, 256, (4, 3, 9, 9), generator=generator(9), dtype=torch.uint8)
    images = TensorImages(pixels, torch.arange(4))
    settings = Augmentation(crop_scale=(0.9999, 1.0))
    crops, labels = next(images.training_batches([torch.tensor([2, 0])], settings, [generator()]))
    assert torch.equal(crops, pixels[[2, 0]])
    assert labels.tolist() == [2, 0]
