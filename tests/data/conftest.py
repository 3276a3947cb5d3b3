"""Image folders that the tests write."""

from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image
from recorded_folders import FRUIT, Maker

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


@pytest.fixture
def others(make_folder: Maker, tmp_path: Path) -> Path:
    """Images that are in no other folder."""
    folder = make_folder({"more": 100, **{f"x{name}": 40 for name in FRUIT}})
    folder.rename(tmp_path / "others")
    return tmp_path / "others"


@pytest.fixture
def root(others: Path, make_folder: Maker) -> Path:
    """Images of three classes."""
    folder = make_folder({})
    for name, count in FRUIT.items():
        copytree(others / f"x{name}", folder / name)
        for index in range(count, 40):
            (folder / name / f"{index}.png").unlink()
    return folder
