"""Preparation against torchvision's resize and normalisation."""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from oneshot.data import prepare

MEAN, STD = (0.49, 0.48, 0.45), (0.24, 0.25, 0.26)


@pytest.mark.parametrize("resolution", [20, 12, 33])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_prepare_is_resize_and_normalize(resolution: int, memory_format: torch.memory_format) -> None:
    images = torch.randint(0, 256, (5, 3, 20, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    got = prepare(images, resolution, MEAN, STD, memory_format)
    resized = reference.resize(images, [resolution, resolution], antialias=True)
    expected = reference.normalize(resized.float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=memory_format)
