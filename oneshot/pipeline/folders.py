"""Run folders: what each step of the job leaves for the next one, and how the next one finds it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneshot.arch import Arch
from oneshot.data import MAY_MOVE, SplitRecord
from oneshot.evaluation.family import SupernetFamily
from oneshot.evaluation.repair import RepairSettings
from oneshot.published import load_published
from oneshot.reading import read_json, short
from oneshot.runs import differences, fingerprint, write_json
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.elastic_network import ElasticNetwork
from oneshot.spaces.loading import from_definition
from oneshot.supernet import Supernet
from oneshot.training.checkpoint import (
    CheckpointError,
    is_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    write_file,
)

SUBNET_FORMAT = "oneshot.subnet.1"
TEACHER = "teacher.pt"  # the network that teaches the later phases of a run, in its folder
RANDOM = "random"  # what a subnet's card says of weights that nothing has trained
_SUPERNET = {
    "space": dict, "config": dict, "classes": list, "step": int, "total_steps": int, "task": dict, "model": dict,
}  # fmt: skip
_SUBNET = {"space": dict, "arch": dict, "weights": dict, "config": dict, "card": dict}


@dataclass(frozen=True)
class Trained:
    """A supernet read back: with the weights to rank by, the config of its training, the step it reached, what its sampler
    had learned by then, which images it was trained on (None: not recorded), whether networks belong to it that were not
    trained, and whether it was trained with stored statistics, see ``PhaseSettings``. Of ``members`` that share out a space,
    it is what they have in common.
    """

    supernet: Supernet | SupernetFamily
    config: dict[str, Any]
    classes: tuple[str, ...]
    folder: Path
    step: int
    total_steps: int
    sampler_state: Mapping[str, Any] = field(default_factory=dict)
    members: Sequence[Trained] = ()
    record: SplitRecord | None = None
    untrained: bool = False
    stored_statistics: bool = False

    def folder_of(self, arch: Arch) -> Path:
        """The folder of the supernet that holds ``arch``: of several that share out a space, that of the one."""
        if isinstance(self.supernet, SupernetFamily):
            return self.members[self.supernet.member(arch)].folder
        return self.folder

    def repair(self, images: int, is_wanted: bool | None = None) -> RepairSettings | None:
        """How subnets are repaired, if they are.

        Args:
            images: training images that weights are fitted on.
            is_wanted: whether they are; None is where it is known to pay: in networks that were there before, where the supernet
                has not been trained or holds others than those that were.
        """
        was_there = isinstance(self.supernet.space, ElasticNetwork) and (self.step == 0 or self.untrained)
        if not (was_there if is_wanted is None else is_wanted):
            return None
        return RepairSettings(images, measure_statistics=self.step > 0 and not self.stored_statistics)

    @property
    def partial_channels(self) -> int:
        """On one of how many parts of the channels options were trained, see ``DifferentiableSampler``; 1 is all."""
        return max(int(each.sampler_state.get("partial_channels", 1)) for each in self.members or [self])

    @property
    def fingerprint(self) -> str:
        """Digits that differ between supernets, wherever they lie."""
        state = self.supernet.state_dict().items()
        parts = ((name.encode(), tensor.cpu().contiguous().numpy().tobytes()) for name, tensor in state)
        return fingerprint(itertools.chain.from_iterable(parts))[:16]


@dataclass(frozen=True)
class Subnet:
    """One network in a file: a plain module's weights, the architecture, everything known about it, and which images it was
    trained on (None: not recorded).
    """

    space: SearchSpace
    arch: Arch
    weights: dict[str, torch.Tensor]
    config: dict[str, Any]
    card: dict[str, Any]
    record: SplitRecord | None = None

    def module(self) -> nn.Module:
        """The plain module with these weights, in eval mode on the CPU."""
        try:
            module = self.space.network(self.arch)
            module.load_state_dict(self.weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = short(str(error).splitlines()[-1].strip())
            raise CheckpointError(f"the subnet's weights do not fit its architecture: {reason}") from None
        return module.eval()


def load_supernet(folder: Path) -> Trained:
    """The supernet of a run folder, from its newest good checkpoint, or of one checkpoint file.

    Raises:
        FileNotFoundError: there is no such folder, or no checkpoint in it.
        ValueError: no checkpoint is good, or it does not hold a supernet.
    """
    state, folder = supernet_state(folder)
    try:
        supernet = Supernet(from_definition(state["space"]))
    except (RuntimeError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{folder}: its space cannot be built: {short(str(error))}") from error
    _fill(supernet, state, folder)
    supernet.space = supernet.space.restrict(state.get("options", {}))  # checkpoints before phases have none
    classes = tuple(state["classes"])
    return Trained(
        supernet,
        state["config"],
        classes,
        folder.resolve(),
        state["step"],
        state["total_steps"],
        state["task"].get("sampler", {}),
        record=record_of(state, folder),
        untrained=state.get("untrained", False),
        stored_statistics=state.get("stored_statistics", False),
    )


def load_before(trained: Trained) -> Trained | None:
    """The same supernet, or supernets that share out a space, at the checkpoint before the one in ``trained``; None where that is
    not there any more, cannot be read, or is of a part of the training that trained other networks.
    """
    members = []
    for member in trained.members or [trained]:
        paths = list_checkpoints(member.folder / "checkpoints")
        earlier = [path for path in paths if path.name < f"step-{member.step:09d}.pt"]
        if not earlier:
            return None
        try:
            found = load_supernet(earlier[0])
        except (CheckpointError, FileNotFoundError):
            return None
        if found.supernet.space.choices != member.supernet.space.choices:
            return None
        members.append(found)
    first = members[0]
    if not trained.members:
        return first
    family = SupernetFamily([one.supernet for one in members if isinstance(one.supernet, Supernet)])
    return replace(first, supernet=family, members=members)


def record_of(state: Mapping[str, Any], path: Path) -> SplitRecord | None:
    """Which images the run of a checkpoint or subnet file trained on; None where that was not recorded.

    Raises:
        CheckpointError: the record is damaged.
    """
    if state.get("images") is None:
        return None
    try:
        return SplitRecord.from_state(state["images"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_supernets(folders: Sequence[Path]) -> Trained:
    """The supernet of one folder, or those of several that share out one space (few-shot search), as ``load_supernet``.

    The folder of a multirun stands for all runs in it.

    Raises:
        ValueError: they were trained on different data, one on held-out or test images of the others, or they do not share out
            one space.
    """
    members = [load_supernet(member) for folder in folders for member in _runs_of(folder)]
    first = members[0]
    if len(members) == 1:
        return first
    for member in members[1:]:
        records = [trained.record.fingerprint for trained in (first, member) if trained.record is not None]
        moved = [f"data.{name}" for name in MAY_MOVE] if len(records) == 2 and records[0] == records[1] else []
        if changed := differences(first.config["data"], member.config["data"], moved, "data."):
            raise ValueError(
                f"{first.folder} and {member.folder} were trained on different data ({', '.join(changed)})"
            )
    record = common_record({str(member.folder): member.record for member in members})
    family = SupernetFamily([member.supernet for member in members if isinstance(member.supernet, Supernet)])
    return replace(first, supernet=family, sampler_state={}, members=members, record=record)


def common_record(records: Mapping[str, SplitRecord | None]) -> SplitRecord | None:
    """The first of the records by folder, with what the others trained on; None where one is missing.

    Raises:
        ValueError: one run trained on held-out or test images of another, or their classes differ.
    """
    known = {folder: record for folder, record in records.items() if record is not None}
    if len(known) < len(records):
        return None
    for folder, record in known.items():
        for other, trained in known.items():
            if record.classes != trained.classes:
                raise ValueError(f"{folder} and {other} were trained on different classes")
            record.check_clean(trained, f"{other} does not fit {folder}: it")
    first, *rest = known.values()
    return first.after(*rest)


def _runs_of(folder: Path) -> list[Path]:
    if not (folder / "multirun.yaml").is_file():
        return [folder]
    return sorted({path.parent.parent for path in folder.rglob("checkpoints/step-*.pt")}) or [folder]


def load_weights(supernet: Supernet, path: Path, new_classifier: bool = False) -> None:
    """Fills ``supernet`` with the weights of another run's folder or checkpoint, or of a published one. With ``new_classifier``
    the block of that name stays as it is, so that the number of classes may be another.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: the weights are not those of the same space.
    """
    if path.is_file() and not is_checkpoint(path):
        load_published(supernet, path, reset_classifier=new_classifier)
        return
    state, folder = supernet_state(path)
    kept = _weights_of(supernet, "bank.classifier.") if new_classifier else {}
    if new_classifier and not kept:
        raise ValueError(f"{type(supernet.space).__name__} has no block called 'classifier' that could be a new one")
    _fill(supernet, state, folder, kept)


def _weights_of(supernet: Supernet, prefix: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in supernet.state_dict().items() if name.startswith(prefix)}


def supernet_state(folder: Path) -> tuple[dict[str, Any], Path]:
    """What a checkpoint file, or the newest good one of a run folder, holds, and the run folder."""
    if folder.is_file():
        state: dict[str, Any] | None = load_checkpoint(folder)
        folder = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    else:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no run folder {folder}")
        checkpoints = list_checkpoints(folder / "checkpoints")
        if not checkpoints:
            raise FileNotFoundError(f"{folder} holds no checkpoint of a supernet (no checkpoints/step-*.pt)")
        state = load_newest(folder / "checkpoints")
        if state is None:
            raise CheckpointError(f"{folder}: none of its {len(checkpoints)} checkpoints can be read")
    assert state is not None
    if state.get("kind") != "supernet":
        raise ValueError(f"{folder} holds a {str(state.get('kind'))[:20]}, not a supernet")
    _check_parts(state, _SUPERNET, folder)
    return state, folder


def _check_parts(state: Mapping[str, Any], parts: Mapping[str, type], path: Path) -> None:
    for name, kind in parts.items():
        if not isinstance(state.get(name), kind):
            raise CheckpointError(f"{path} is damaged: its {name} is {short(state.get(name))}, not a {kind.__name__}")


def _fill(supernet: Supernet, state: Mapping[str, Any], folder: Path, kept: Mapping[str, torch.Tensor] = {}) -> None:
    weights = state["model"] if state.get("average") is None else state["average"]
    try:
        supernet.load_state_dict({**weights, **kept})
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"{folder} does not fit the space {supernet.space.definition['_target_']}: {first[:300]}"
        ) from None


def save_subnet(path: Path, subnet: Subnet) -> None:
    """Writes the subnet to ``path``, and what can be read beside it as JSON."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in subnet.weights.items()}
    described = {
        "format": SUBNET_FORMAT,
        "space": subnet.space.definition,
        "arch": subnet.arch.to_dict(),
        "card": subnet.card,
    }
    images = None if subnet.record is None else subnet.record.state()
    write_file(path, {**described, "weights": weights, "config": subnet.config, "images": images})
    write_json(path.with_suffix(".json"), described)


def load_subnet(path: Path, names: tuple[str, ...] = ("retrained.pt", "subnet.pt")) -> Subnet:
    """The subnet in a file, or in the first of ``names`` that a folder holds.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: the file is damaged or no subnet of oneshot.
    """
    if path.is_dir():
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            below = sorted(str(each) for each in path.iterdir() if any((each / name).is_file() for name in names))
            instead = f"; these do: {', '.join(below)}" if below else ""
            raise FileNotFoundError(f"{path} holds no subnet ({' or '.join(names)}){instead}")
        path = found
    elif not path.exists():
        raise FileNotFoundError(f"there is no subnet {path}")
    state = load_checkpoint(path, expected=SUBNET_FORMAT)
    _check_parts(state, _SUBNET, path)
    space = from_definition(state["space"])
    record = record_of(state, path)
    return Subnet(space, space.arch(state["arch"]), state["weights"], state["config"], state["card"], record)


def newest(root: Path, pattern: str) -> Path | None:
    """The folder below ``root`` that holds the most recently written file matching ``pattern``, such as ``"subnet.pt"``."""
    files = [path for path in root.rglob(pattern) if path.is_file()]
    if not files:
        return None
    latest = max(files, key=lambda path: path.stat().st_mtime)
    return latest.parent.parent if latest.parent.name == "checkpoints" else latest.parent


def read_arch(path: Path, space: SearchSpace) -> Arch:
    """An architecture of ``space`` from a JSON file: an object of choices and values, or one with such an object as ``arch``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or no architecture of the space.
    """
    values = read_json(path, "architecture file")
    if isinstance(values, dict) and isinstance(values.get("arch"), dict):
        values = values["arch"]
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no architecture: a JSON object of choices and values is expected")
    try:
        return space.arch(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
