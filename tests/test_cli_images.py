"""The commands as a user types them, in whose folder of images much changes between one and the next."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "training"))

from child_processes import Finished, run_program
from test_cli import CODE, MY_SPACE, SEARCH, expect_error, expect_success

COLOURS = {"apple": (220, 40, 40), "pear": (40, 220, 40), "plum": (40, 40, 220)}
TRAIN = ["+space=my_space", "data=image_folder", "data.root=fruit", "data.image_size=16", "calibration_images=32"]
TRAINER = ["trainer.device=cpu", "trainer.threads=1", "trainer.batch_size=16"]


def add_images(folder: Path, colour: tuple[int, int, int], names: list[str], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for name in names:
        pixels = np.array(colour) + random.normal(0, 40, (16, 16, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a space of their own, images of three classes that a tiny network tells apart, and a supernet."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "my_space.py").write_text(MY_SPACE)
    for seed, (name, colour) in enumerate(COLOURS.items()):
        add_images(folder / "fruit" / name, colour, [f"{index:02}" for index in range(30)], seed)
    expect_success(
        run(folder, "train_supernet.py", *TRAIN, *TRAINER, "trainer.epochs=12", "trainer.lr=0.3", "run=supernet")
    )
    return folder


def run(folder: Path, script: str, *arguments: str) -> Finished:
    return run_program(script, list(arguments), folder)


def test_images_added_and_a_class_renamed_between_the_steps(workshop: Path) -> None:
    fruit = workshop / "fruit"
    add_images(fruit / "apple", COLOURS["apple"], ["00 a", "00 b", "00 c"], 9)
    (fruit / "apple").rename(fruit / "red_apple")
    (fruit / "pear" / "07.png").rename(fruit / "pear" / "zz.png")
    searched = expect_success(run(workshop, "search_subnet.py", *SEARCH, "run=search"))
    assert "classes renamed since the supernet" in searched.stdout
    assert "3 images are new since the supernet" in searched.stdout
    assert json.loads((workshop / "search" / "subnet.json").read_text())["card"]["held_out_accuracy"] >= 0.9
    expect_error(
        run(workshop, "retrain_subnet.py", "subnet=search", CODE, "new_images=error", "run=refused"),
        "retrain_subnet.py",
        r"3 images are new since the subnet in search, such as fruit/red_apple/00 a.png; new_images=ignore leaves them",
    )
    arguments = ["subnet=search", CODE, "new_images=train", *TRAINER, "trainer.epochs=2", "run=retrain"]
    assert "3 are training images now" in expect_success(run(workshop, "retrain_subnet.py", *arguments)).stdout
    result = json.loads((workshop / "retrain" / "retrain.json").read_text())
    assert (result["test_images"], result["test_accuracy"] >= 0.9) == (18, True)
    expect_success(run(workshop, "export_subnet.py", "subnet=retrain", CODE, "run=export"))
    assert json.loads((workshop / "export" / "model.json").read_text())["classes"] == ["red_apple", "pear", "plum"]
    started = [*TRAIN, *TRAINER, "trainer.epochs=1", "init=supernet", "data.split_seed=7", "run=second"]
    assert (
        "90 of 93 images are known from init=supernet"
        in expect_success(run(workshop, "train_supernet.py", *started)).stdout
    )
    (fruit / "plum").rename(workshop / "plum")
    expect_error(
        run(workshop, "search_subnet.py", *SEARCH, "run=refused"),
        "search_subnet.py",
        r"classes are not those of the supernet .*, apple, pear, plum: 'plum' is gone",
    )
