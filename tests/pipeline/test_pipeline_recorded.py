"""From step to step and from run to run, nothing is scored or tested on images that its weights were trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_runs import SPACE, make_settings, search
from toy_spaces import ToySpace
from training_runs import copy_state, differences

from oneshot.config import make_data
from oneshot.data import ImageData, SplitRecord
from oneshot.evaluation import ScoreSettings
from oneshot.pipeline.chosen_subnet import choose
from oneshot.pipeline.folders import load_subnet, load_supernet, load_supernets
from oneshot.pipeline.recorded import of_step, of_training
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.pipeline.steps import newest_checkpoint
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.supernet import Supernet
from oneshot.training import CheckpointError, list_checkpoints, load_checkpoint
from oneshot.training.checkpoint import write_file

CLASSES = {"apple": 0, "melon": 1, "pear": 2, "plum": 3}


def add_images(root: Path, name: str, indices: range, colour: int) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    for index in indices:
        noise = np.random.default_rng(1000 * colour + index).normal(40 * colour + 50, 20, (8, 8, 3))
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(root / name / f"{index:03}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "fruit"
    for name, colour in CLASSES.items():
        add_images(folder, name, range(100, 120), colour)
    return folder


def config_of(root: Path, **options: Any) -> dict[str, Any]:
    source = {"_target_": "oneshot.data.image_folder", "root": str(root), "image_size": 8}
    return {"data": source | options, "seed": 0}


def load(root: Path, folder: Path, init: Path | None = None, new_classifier: bool = False, **options: Any) -> ImageData:
    """As ``train_supernet.py`` loads its images."""
    config = config_of(root, **options)["data"]
    return make_data(
        config, of_training(folder, newest_checkpoint(folder, "train_supernet"), config, init, new_classifier)
    )


def train(
    root: Path, folder: Path, init: Path | None = None, checkpoint_seconds: float = 60, **options: Any
) -> Supernet:
    config, data = config_of(root, **options), load(root, folder, init, **options)
    settings = make_settings(epochs=2, checkpoint_seconds=checkpoint_seconds)
    training = SupernetTraining(settings, calibration_images=32, init=init, config=config)
    supernet = train_supernet(ToySpace(**SPACE), data, training, folder).supernet
    assert isinstance(supernet, Supernet)
    return supernet


def images_of(record: SplitRecord | None, *names: str) -> set[int]:
    assert record is not None
    return {digest for name in names for digest in record.images[name].tolist()}


def test_every_step_keeps_to_the_split_of_the_training(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "supernet")
    supernet = load_supernet(tmp_path / "supernet")
    add_images(root, "pear", range(3), CLASSES["pear"])
    (root / "apple").rename(root / "red_apple")
    for path in sorted((root / "plum").iterdir()):
        path.rename(path.with_name(f"{int(path.stem) * 7 % 100}.png"))

    data = make_data(
        supernet.config["data"], of_step(supernet.record, "the supernet", tmp_path / "search", None, "ignore")
    )
    search(tmp_path / "supernet", tmp_path / "search", data=data)
    subnet = load_subnet(tmp_path / "search")
    assert subnet.card["classes"] == ["red_apple", "melon", "pear", "plum"]
    (root / "red_apple").rename(root / "green_apple")
    add_images(root, "melon", range(5), CLASSES["melon"])
    config, retrained_at = config_of(root), tmp_path / "retrain"
    data = make_data(config["data"], of_step(subnet.record, "the subnet", retrained_at, None, "train"))
    retrain = RetrainSettings(calibration_images=32)
    training = SubnetTraining(make_settings(epochs=1), retrain, supernet, config=config)
    retrain_subnet(subnet, data, training, retrained_at)
    retrained = load_subnet(retrained_at)
    assert retrained.card["classes"] == ["green_apple", "melon", "pear", "plum"]
    assert retrained.record is not None
    assert len(retrained.record.images["train"]) == len(images_of(supernet.record, "train")) + 8
    for record in (subnet.record, retrained.record):
        assert images_of(record, "train") >= images_of(supernet.record, "train")
        for name in ("held_out", "test"):
            assert torch.equal(record.images[name], supernet.record.images[name])  # type: ignore[union-attr]


def test_runs_from_the_weights_of_others_keep_to_their_split(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "first")
    train(root, tmp_path / "second", init=tmp_path / "first", split_seed=5, held_out=0.3, max_train_images=20)
    add_images(root, "pear", range(30), CLASSES["pear"])
    train(root, tmp_path / "third", init=list_checkpoints(tmp_path / "second" / "checkpoints")[0], split_seed=6)
    first, second, third = (load_supernet(tmp_path / name).record for name in ("first", "second", "third"))
    assert images_of(second, "train") < images_of(first, "train")
    assert second is not None
    assert set(second.trained_on.tolist()) == images_of(first, "train")
    for record in (first, second):
        assert not images_of(third, "held_out", "test") & images_of(record, "train")
        assert images_of(third, "test") >= images_of(record, "test")
    assert len(images_of(third, "train", "held_out", "test")) == 110


def test_a_run_goes_on_with_the_images_that_it_began_with(root: Path, tmp_path: Path) -> None:
    whole = train(root, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    train(root, stopped, checkpoint_seconds=0)
    last, before = list_checkpoints(stopped / "checkpoints")
    last.unlink()
    (stopped / "training.html").unlink()
    add_images(root, "pear", range(4), CLASSES["pear"])
    assert images_of(make_data(config_of(root)["data"]).record, "train", "held_out", "test") > images_of(
        load_supernet(before).record, "train", "held_out", "test"
    )
    again = load(root, stopped)
    assert len(again.train) + len(again.held_out) + len(again.test) == 80
    assert not differences(copy_state(train(root, stopped)), copy_state(whole))
    # A run with other settings is refused as such, whatever its images are.
    with pytest.raises(ValueError, match=r"stopped was started with other settings \(data.split_seed"):
        train(root, stopped, split_seed=4)


def test_a_run_goes_on_where_its_images_are_now(root: Path, tmp_path: Path) -> None:
    whole = train(root, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    train(root, stopped, checkpoint_seconds=0)
    list_checkpoints(stopped / "checkpoints")[0].unlink()
    (stopped / "training.html").unlink()
    moved = root.rename(tmp_path / "moved")
    assert not differences(copy_state(train(moved, stopped, num_workers=1)), copy_state(whole))
    supernet = load_supernet(stopped)
    assert supernet.config["data"]["root"] == str(moved)

    def data_at(place: Path) -> ImageData:
        config = supernet.config["data"] | {"root": str(place)}
        return make_data(config, of_step(supernet.record, "the supernet", tmp_path / "search", None, "ignore"))

    found = search(stopped, tmp_path / "search", data=data_at(moved))
    elsewhere = moved.rename(tmp_path / "elsewhere")
    assert search(stopped, tmp_path / "search", data=data_at(elsewhere)).outcomes[0].best == found.outcomes[0].best
    subnet = load_subnet(tmp_path / "search")
    before = [
        retrain_subnet(
            subnet,
            data_at(elsewhere),
            SubnetTraining(make_settings(epochs=1), RetrainSettings(calibration_images=32), config=config_of(place)),
            tmp_path / "retrain",
        )
        for place in (moved, elsewhere)
    ]
    assert before[0].test_accuracy == before[1].test_accuracy


def test_the_classes_of_another_run(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "first")
    (root / "plum").rename(tmp_path / "plum")
    add_images(root, "kiwi", range(20), 5)
    with pytest.raises(ValueError, match=r"the classes are not those of init=.*first, apple, melon, pear, plum"):
        load(root, tmp_path / "second", tmp_path / "first")
    data = load(root, tmp_path / "second", tmp_path / "first", new_classifier=True, split_seed=3)
    assert data.classes == ("apple", "kiwi", "melon", "pear")
    assert not images_of(data.record, "held_out", "test") & images_of(load_supernet(tmp_path / "first").record, "train")


def test_supernets_that_share_out_a_space_share_their_split(root: Path, tmp_path: Path) -> None:
    def member(name: str, op: str, data: ImageData) -> None:
        config, options = {"data": {"name": "fruit"}}, {"op": [op]}
        settings, space = make_settings(epochs=1), ToySpace(**SPACE)
        training = SupernetTraining(settings, calibration_images=32, options=options, config=config)
        train_supernet(space, data, training, tmp_path / name)

    data = make_data(config_of(root)["data"])
    apart = make_data(config_of(root, split_seed=1)["data"])
    for name, op, images in (("one", "conv1", data), ("two", "conv3", data), ("apart", "conv3", apart)):
        member(name, op, images)
    record = load_supernets([tmp_path / "one", tmp_path / "two"]).record
    assert record is not None
    assert data.record is not None
    assert record.fingerprint == data.record.fingerprint
    pattern = r"apart does not fit .*one: it was trained on \d+ of the 16 held-out and \d+ of the 16 test images"
    with pytest.raises(ValueError, match=pattern):
        load_supernets([tmp_path / "one", tmp_path / "apart"])


def test_another_supernet_in_the_folder_of_the_subnets(root: Path, tmp_path: Path) -> None:
    """It is no longer the one that the search saw, and was trained on other images."""
    train(root, tmp_path / "supernet")
    supernet = load_supernet(tmp_path / "supernet")
    data = make_data(supernet.config["data"], of_step(supernet.record, "it", tmp_path / "search", None, "ignore"))
    search(tmp_path / "supernet", tmp_path / "search", data=data)
    (tmp_path / "supernet").rename(tmp_path / "moved")
    train(root, tmp_path / "supernet", split_seed=1)
    with pytest.raises(ValueError, match=r"the supernet that lies in .*supernet now was trained on \d+ of the 16 held"):
        choose(load_subnet(tmp_path / "search"), None, data, ScoreSettings(), 0)


def test_scores_on_other_images_are_not_mixed(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "supernet")
    trained = load_supernet(tmp_path / "supernet")

    def again(new_images: str) -> None:
        recorded = of_step(trained.record, "the supernet", tmp_path / "search", None, new_images)
        search(tmp_path / "supernet", tmp_path / "search", data=make_data(trained.config["data"], recorded))

    again("ignore")
    add_images(root, "pear", range(2), CLASSES["pear"])
    again("ignore")
    with pytest.raises(ValueError, match=r"search holds another search \(images was \w{8} and is \w{8}\)"):
        again("train")


# Checkpoints without a record, or with a damaged one -----------------------------------------------------------------


def change_checkpoint(folder: Path, **changes: object) -> None:
    (path,) = list_checkpoints(folder / "checkpoints")[:1]
    for older in list_checkpoints(folder / "checkpoints")[1:]:
        older.unlink()
    write_file(path, load_checkpoint(path) | changes)


def test_a_checkpoint_without_a_record_is_said(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(root, tmp_path / "old")
    change_checkpoint(tmp_path / "old", images=None)
    supernet = load_supernet(tmp_path / "old")
    assert supernet.record is None
    caplog.clear()
    assert of_step(supernet.record, "the supernet", tmp_path / "search", None, "ignore") is None
    assert load(root, tmp_path / "new", tmp_path / "old").record is not None
    for line, who in zip(caplog.messages, ("the supernet", f"init={tmp_path / 'old'}"), strict=True):
        assert line.startswith(f"{who} does not say which images it was trained on")
        assert line.endswith("cannot be checked")


def test_a_damaged_record_is_named(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "run")
    change_checkpoint(tmp_path / "run", images={"classes": ["a"]})
    with pytest.raises(CheckpointError, match="run: the record of the images of training is damaged"):
        load_supernet(tmp_path / "run")


def test_a_teacher_that_saw_the_test_images_is_refused(root: Path, tmp_path: Path) -> None:
    from oneshot.pipeline.folders import save_subnet
    from oneshot.training import PhaseSettings

    apart = make_data(config_of(root, split_seed=1)["data"])
    data = make_data(config_of(root)["data"])
    phases = {
        "full": PhaseSettings(epochs=1, largest={"*": 1}),
        "rest": PhaseSettings(epochs=1, distill=True),
    }
    settings, space, folder = make_settings(epochs=2), ToySpace(**SPACE), tmp_path / "run"
    training = SupernetTraining(settings, calibration_images=32, phases=phases)
    train_supernet(space, data, training, folder)
    teacher = load_subnet(folder / "teacher.pt")
    assert teacher.record is not None
    assert data.record is not None
    assert teacher.record.fingerprint == data.record.fingerprint
    save_subnet(folder / "teacher.pt", replace(teacher, record=apart.record))
    with pytest.raises(ValueError, match=r"the teacher .*teacher.pt was trained on \d+ of the 16 held-out and"):
        train_supernet(space, data, training, folder)


def test_supernets_of_one_space_go_together_where_the_images_moved_meanwhile(root: Path, tmp_path: Path) -> None:
    """Their content says that they are the same; other images of the same classes are not."""
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(root, moved)
    shutil.copytree(root, other)
    add_images(other, "pear", range(3), CLASSES["pear"])
    for kernel, folder in (("conv1", root), ("conv3", moved), ("conv3", other)):
        config, run = config_of(folder), tmp_path / "runs" / folder.name
        training = SupernetTraining(
            make_settings(epochs=1), calibration_images=32, options={"op": [kernel]}, config=config
        )
        train_supernet(ToySpace(**SPACE), load(folder, run), training, run)
    runs = tmp_path / "runs"
    assert load_supernets([runs / "fruit", runs / "moved"]).supernet.space.size == ToySpace(**SPACE).size
    with pytest.raises(ValueError, match=r"were trained on different data \(data.root was .*fruit and is .*other\)"):
        load_supernets([runs / "fruit", runs / "other"])
