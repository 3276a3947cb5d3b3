"""The augmentation of whole batches, against loops over images."""

import random

import numpy as np
import pytest
import torch

from oneshot.data import Augmentation, augment

EVERYTHING = [
    Augmentation(crop_padding=2, horizontal_flip=True),
    Augmentation(horizontal_flip=True),
    Augmentation(erase_probability=0.7),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(batch: int, size: int = 6) -> torch.Tensor:
    return torch.randint(1, 256, (batch, 3, size, size), generator=generator(9), dtype=torch.uint8)


@pytest.mark.parametrize(("padding", "flip"), [(1, True), (1, False), (0, True), (2, False)])
def test_padded_crops_and_mirroring_copy_pixels_exactly(padding: int, flip: bool) -> None:
    image = noise(1)
    outputs = augment(image.expand(600, -1, -1, -1), Augmentation(padding, horizontal_flip=flip), generator())
    padded = np.pad(image[0].numpy(), ((0, 0), (padding, padding), (padding, padding)))
    candidates = set()
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + 6, left : left + 6]
            candidates.add(crop.tobytes())
            if flip:
                candidates.add(crop[:, :, ::-1].tobytes())
    assert len(candidates) == (2 * padding + 1) ** 2 * (1 + flip)
    assert {output.numpy().tobytes() for output in outputs} == candidates


@pytest.mark.parametrize("settings", EVERYTHING)
def test_each_image_is_drawn_for_itself_from_the_generator_alone(settings: Augmentation) -> None:
    images = noise(1, 12).expand(32, -1, -1, -1)
    before = images.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = augment(images, settings, generator(1))
    assert torch.equal(augment(images, settings, generator(1)), first)
    assert not torch.equal(augment(images, settings, generator(2)), first)
    assert first.unique(dim=0).shape[0] > 1
    assert torch.equal(images, before)
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


def test_nothing_to_do_returns_the_images() -> None:
    images = noise(4)
    assert torch.equal(augment(images, Augmentation(), generator()), images)


def test_erasing_fills_one_rectangle_with_noise_in_the_given_part() -> None:
    images = torch.zeros(1000, 3, 16, 16, dtype=torch.uint8)
    erased = augment(images, Augmentation(erase_probability=0.3), generator()).bool().any(1)
    touched = erased.flatten(1).any(1)
    assert touched.sum().item() == pytest.approx(300, abs=50)
    for mask in erased[touched]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        area = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert mask.sum() == area  # noise of three channels is never black in these draws
        assert 0.01 * 256 <= area <= 0.36 * 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_padding": -1}, "crop_padding must be a number of pixels, 0 or more, got -1"),
        ({"crop_padding": 1.5}, "crop_padding must be .* got 1.5"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale must be two numbers \[least, greatest\] above 0 and up to 1, got"),
        ({"crop_scale": (0.5, 1.2)}, "crop_scale"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale"),
        ({"crop_scale": 0.5}, "crop_scale must be .* got 0.5"),
        ({"crop_ratio": (1.0,)}, "crop_ratio must be two numbers"),
        ({"horizontal_flip": 1}, "horizontal_flip must be true or false, got 1"),
        ({"erase_probability": 1.1}, "erase_probability must be between 0 and 1, got 1.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)  # type: ignore[arg-type]


def test_lists_become_tuples() -> None:
    settings = Augmentation(crop_scale=[0.5, 1], crop_ratio=[1, 2])  # type: ignore[arg-type]
    assert settings == Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(1.0, 2.0))
    assert hash(settings) == hash(Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(1.0, 2.0)))


def test_other_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of shape .*, got torch.float32 \(1, 3, 4, 4\)"):
        augment(torch.zeros(1, 3, 4, 4), Augmentation(), generator())
