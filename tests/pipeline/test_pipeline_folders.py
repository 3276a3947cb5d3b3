"""Run folders: what is written is found again, and whatever else lies there is named."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from pipeline_runs import SPACE
from toy_spaces import OtherSpace, ToySpace
from training_runs import copy_state, differences

from oneshot.pipeline.folders import (
    Subnet,
    load_subnet,
    load_supernet,
    newest,
    read_arch,
    save_subnet,
)
from oneshot.runs import write_json
from oneshot.training import CheckpointError, list_checkpoints, load_checkpoint
from oneshot.training.checkpoint import write_file


def test_a_supernet_from_its_folder_and_from_a_checkpoint(supernet_folder: Path) -> None:
    trained = load_supernet(supernet_folder)
    assert trained.supernet.space.definition == ToySpace(**SPACE).definition
    assert trained.classes == ("a", "b", "c", "d")
    assert trained.config == {"data": {"name": "toys"}, "seed": 0}
    assert (trained.step, trained.total_steps) == (36, 36)
    assert trained.folder == supernet_folder
    (path,) = list_checkpoints(supernet_folder / "checkpoints")
    single = load_supernet(path)
    assert single.folder == supernet_folder
    assert not differences(copy_state(single.supernet), copy_state(trained.supernet))


def test_a_checkpoint_that_was_copied_elsewhere(supernet_folder: Path, tmp_path: Path) -> None:
    (path,) = list_checkpoints(supernet_folder / "checkpoints")
    shutil.copy(path, tmp_path / "best.pt")
    trained = load_supernet(tmp_path / "best.pt")
    assert trained.folder == tmp_path
    assert trained.fingerprint == load_supernet(supernet_folder).fingerprint


def test_folders_are_absolute(supernet_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is kept in other folders, which may be read from elsewhere."""
    monkeypatch.chdir(supernet_folder.parent)
    assert load_supernet(Path("supernet")).folder == supernet_folder


def test_fingerprints_tell_supernets_apart(supernet_folder: Path) -> None:
    trained = load_supernet(supernet_folder)
    before = trained.fingerprint
    with torch.no_grad():
        trained.supernet.bank.get_submodule("classifier").bias[0] += 1e-3
    assert trained.fingerprint != before
    assert load_supernet(supernet_folder).fingerprint == before


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no run folder .*nowhere"):
        load_supernet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no checkpoint of a supernet"):
        load_supernet(tmp_path)


def copy_run(supernet_folder: Path, tmp_path: Path, **changes: object) -> Path:
    """A run folder with a checkpoint in which some values are different."""
    (path,) = list_checkpoints(supernet_folder / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    write_file(tmp_path / "checkpoints" / path.name, load_checkpoint(path) | changes)
    return tmp_path


def test_only_damaged_checkpoints(supernet_folder: Path, tmp_path: Path) -> None:
    folder = copy_run(supernet_folder, tmp_path)
    (path,) = list_checkpoints(folder / "checkpoints")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="none of its 1 checkpoints can be read"):
        load_supernet(folder)
    with pytest.raises(CheckpointError, match=r"step-000000036\.pt is truncated"):
        load_supernet(path)


def test_the_run_of_a_subnet(supernet_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} holds a subnet, not a supernet"):
        load_supernet(copy_run(supernet_folder, tmp_path, kind="subnet"))


def test_weights_of_another_space(supernet_folder: Path, tmp_path: Path) -> None:
    """A user's space may have changed since: the message names folder, space and a tensor, in one line."""
    folder = copy_run(supernet_folder, tmp_path, space=OtherSpace(**SPACE).definition)
    with pytest.raises(CheckpointError, match=r"does not fit the space toy_spaces.OtherSpace: .*bank\.") as raised:
        load_supernet(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"_target_": "no_such_module.Space"},
            "'no_such_module.Space' is not part of oneshot: add code=no_such_module.py ",
        ),
        ({"_target_": "toy_spaces.NoSuchSpace"}, "'toy_spaces.NoSuchSpace' is not part of oneshot"),
        ({"_target_": "os.system", "command": "true"}, "is not a search space"),
        ({"_target_": "toy_spaces.ToySpace", "depth": 3}, "ToySpace has no argument 'depth'"),
        ({"_target_": "toy_spaces.ToySpace", "num_classes": 9}, r"does not fit .*classifier\.(weight|bias)"),
    ],
)
def test_spaces_that_cannot_be_made(
    supernet_folder: Path, tmp_path: Path, space: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_supernet(copy_run(supernet_folder, tmp_path, space=space))


def test_the_average_is_preferred(supernet_folder: Path, tmp_path: Path) -> None:
    trained = load_supernet(supernet_folder)
    average = {name: tensor * 0 for name, tensor in trained.supernet.state_dict().items()}
    weights = load_supernet(copy_run(supernet_folder, tmp_path, average=average)).supernet.state_dict()
    assert all(not tensor.any() for tensor in weights.values())


# Subnets -------------------------------------------------------------------------------------------------------------


def save_one(path: Path) -> torch.nn.Module:
    space = ToySpace(**SPACE)
    module = space.network(space.smallest)
    card = {"macs": 12, "classes": ["a", "b"]}
    save_subnet(path, Subnet(space, space.smallest, module.state_dict(), {"data": {"name": "toys"}}, card))
    return module


def test_a_subnet_round_trip(tmp_path: Path) -> None:
    module = save_one(tmp_path / "subnet.pt")
    subnet = load_subnet(tmp_path)
    assert subnet.arch == ToySpace(**SPACE).smallest
    assert subnet.space.definition == ToySpace(**SPACE).definition
    assert subnet.card == {"macs": 12, "classes": ["a", "b"]}
    assert subnet.config == {"data": {"name": "toys"}}
    restored = subnet.module()
    assert not differences(copy_state(restored), copy_state(module))
    assert not restored.training
    described = json.loads((tmp_path / "subnet.json").read_text())
    assert described["arch"] == subnet.arch.to_dict()
    assert described["card"] == subnet.card
    assert described["format"] == "oneshot.subnet.1"


def test_which_subnet_of_a_folder(tmp_path: Path) -> None:
    save_one(tmp_path / "subnet.pt")
    with pytest.raises(FileNotFoundError, match=r"holds no subnet \(retrained.pt\)"):
        load_subnet(tmp_path, ("retrained.pt",))
    save_one(tmp_path / "retrained.pt").eval()
    (tmp_path / "subnet.pt").write_bytes(b"")
    assert load_subnet(tmp_path).card["macs"] == 12
    with pytest.raises(CheckpointError, match=r"subnet\.pt is truncated"):
        load_subnet(tmp_path, ("subnet.pt", "retrained.pt"))


def test_no_subnet(supernet_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no subnet .*nowhere"):
        load_subnet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no subnet \(retrained.pt or subnet.pt\)"):
        load_subnet(supernet_folder)
    for limit in ("1", "2"):
        (tmp_path / f"max_macs-{limit}").mkdir()
        (tmp_path / f"max_macs-{limit}" / "subnet.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"; these do: .*max_macs-1, .*max_macs-2$"):
        load_subnet(tmp_path)
    (path,) = list_checkpoints(supernet_folder / "checkpoints")
    with pytest.raises(CheckpointError, match=r"its format is 'oneshot.checkpoint.1', not 'oneshot.subnet.1'"):
        load_subnet(path)


# Files ---------------------------------------------------------------------------------------------------------------


def test_the_newest_run(tmp_path: Path) -> None:
    assert newest(tmp_path, "subnet.pt") is None
    now = time.time()
    for age, name in ((30, "a/subnet.pt"), (10, "b/c/subnet.pt"), (20, "d/subnet.pt"), (5, "e/checkpoints/step-1.pt")):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (now - age, now - age))
    assert newest(tmp_path, "subnet.pt") == tmp_path / "b" / "c"
    assert newest(tmp_path, "step-*.pt") == tmp_path / "e"


def test_json_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"a": 1})

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_architectures_from_json(tmp_path: Path) -> None:
    space = ToySpace(**SPACE)
    path = tmp_path / "arch.json"
    for content in (space.largest.to_dict(), {"arch": space.largest.to_dict(), "card": {}}):
        path.write_text(json.dumps(content))
        assert read_arch(path, space) == space.largest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"arch\.json is not JSON"),
        ("\xff\xfe", r"arch\.json is not JSON"),
        ("[1, 2]", "a JSON object of choices and values is expected"),
        ('{"widht": 4}', r"arch\.json: 'widht' is not a choice of this space; did you mean 'width'"),
        ('{"resolution": 8, "width": 5}', r"arch\.json: choice 'width' cannot be 5; its options are \[4, 8\]"),
        ('{"resolution": 8}', r"arch\.json: choice 'width' has no value"),
        ('{"resolution": [8]}', r"choice 'resolution' cannot be \[8\]"),
    ],
)
def test_files_that_hold_no_architecture(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "arch.json"
    path.write_bytes(content.encode("latin1"))
    with pytest.raises(ValueError, match=message):
        read_arch(path, ToySpace(**SPACE))


def test_no_architecture_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no architecture file .*arch\.json"):
        read_arch(tmp_path / "arch.json", ToySpace(**SPACE))
