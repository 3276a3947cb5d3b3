"""Image folders that the tests write."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FolderMaker = Callable[[Mapping[str, int]], Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderMaker:
    """Write random images of 12x10 pixels: `{"train/cat": 3}` makes `root/train/cat/{0,1,2}.png`."""

    def make(counts: Mapping[str, int]) -> Path:
        root = tmp_path / "pets"
        random = np.random.default_rng(0)
        for name, count in counts.items():
            (root / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{index}.png")
        return root

    return make
