"""The configuration files, composed as their commands compose them."""

from __future__ import annotations

import functools

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from oneshot.config import (
    CONF,
)
from oneshot.data import Augmentation, ImageData, TensorImages

GLOBAL = "# @package _global_"
PRESETS = {path.stem for path in (CONF / "trainer").glob("*.yaml") if path.read_text().startswith(GLOBAL)}


@functools.cache
def composed(entry: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(entry, overrides=list(overrides))


def toy_data() -> ImageData:
    images = TensorImages(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]))
    statistics = (0.5, 0.5, 0.5)
    return ImageData("toy", images, images, images, ("a", "b"), 32, statistics, statistics, Augmentation())
