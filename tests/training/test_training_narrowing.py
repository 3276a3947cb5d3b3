"""Phases that keep the strongest options and widen the part of the channels on which they work."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch
from toy_spaces import ToyCell, make_data
from training_runs import differences, values_of

from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.narrowing import check_strongest, go_on
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import ArchitectureLearning, DifferentiableSampler, EdgeNormalisation, UniformSampler
from oneshot.spaces import DARTS, NASBench201
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import PhaseSettings, TrainSettings, list_checkpoints, load_checkpoint, load_newest, plan_phases

PHASES = {"all": PhaseSettings(1), "some": PhaseSettings(1, strongest=2), "one": PhaseSettings(1, strongest=1)}


def make(space: SearchSpace, **changes: int) -> DifferentiableSampler:
    return DifferentiableSampler(space, 0, learning=ArchitectureLearning(lr=0.05), **changes)  # type: ignore[arg-type]


def run(folder: Path, phases: dict[str, PhaseSettings]) -> None:
    trainer = TrainSettings(
        epochs=2, batch_size=16, device="cpu", eval_every=0, warmup_epochs=0, checkpoint_seconds=0, keep_checkpoints=20
    )
    train_supernet(ToyCell(), make_data(), SupernetTraining(trainer, make, 32, phases, config={"seed": 0}), folder)


def test_a_phase_keeps_what_the_one_before_found_strongest_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """From a checkpoint between two phases, and from one within the second."""
    two = {name: PHASES[name] for name in ("all", "some")}
    run(tmp_path / "whole", two)
    first, second = values_of(tmp_path / "whole", "policy")
    for choice, before in first.items():  # type: ignore[attr-defined]
        assert set(second[choice]) == set(sorted(before, key=before.__getitem__)[-2:])  # type: ignore[index]
    wanted = load_newest(tmp_path / "whole" / "checkpoints")
    assert wanted is not None
    assert {len(values) for values in wanted["task"]["sampler"]["parameters"].values()} == {2}
    found = load_supernet(tmp_path / "whole").supernet.space
    assert {len(choice.options) for choice in found.choices} == {2}
    paths = list_checkpoints(tmp_path / "whole" / "checkpoints")
    between = load_checkpoint(paths[0])["total_steps"] // 2
    for step in (between, between + 1):
        folder = tmp_path / str(step)
        (folder / "checkpoints").mkdir(parents=True)
        (path,) = (path for path in paths if load_checkpoint(path)["step"] == step)
        shutil.copy(path, folder / "checkpoints")
        run(folder, two)
        again = load_newest(folder / "checkpoints")
        assert again is not None
        for part in ("model", "optimizer", "task", "options"):
            assert differences(again[part], wanted[part]) == []


def test_parameters_of_the_options_that_are_left_stay() -> None:
    space = NASBench201(num_classes=4, channels=4, num_cells=1)
    before = DifferentiableSampler(space, 1, EdgeNormalisation())
    part = space.restrict({choice.name: choice.options[index % 3 :: 2] for index, choice in enumerate(space.choices)})
    after = DifferentiableSampler(part, 2, EdgeNormalisation())
    go_on(Supernet(space), before, after, torch.Generator())
    for index, choice in enumerate(space.choices):
        assert torch.equal(after.parameters[choice.name], before.parameters[choice.name][index % 3 :: 2])
    for name in before.parameters.keys() - {choice.name for choice in space.choices}:
        assert torch.equal(after.parameters[name], before.parameters[name])


def test_new_channels_are_copies_of_trained_ones() -> None:
    """The same ones in every tensor of a block; what was there and what is used by neither stays."""
    space = NASBench201(num_classes=4, channels=8, num_cells=1)
    supernet, relaxed = Supernet(space), make(space).relaxed()
    for norm in supernet.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(norm.weight)
    kept = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    count = supernet.widen(relaxed.on_part(4), relaxed.on_part(2), torch.Generator().manual_seed(0))
    changed = {name for name, tensor in supernet.state_dict().items() if not torch.equal(tensor, kept[name])}
    assert count >= len(changed) > 0
    seen = set()
    for name, tensor in supernet.state_dict().items():
        if name not in changed or tensor.dim() != 4:
            continue
        full = tensor.shape[0]
        old, new = full // 4, full // 2
        before = kept[name]
        rows = [[i for i in range(old) if torch.equal(tensor[o, :old], before[i, :old])] for o in range(old, new)]
        assert all(len(row) == 1 for row in rows)
        seen.add((full, tuple(row[0] for row in rows)))
        assert torch.equal(tensor[:old, :old], before[:old, :old])
        assert torch.equal(tensor[new:], before[new:])
        assert torch.equal(tensor[:, new:], before[:, new:])
    assert len(seen) == len({full for full, _ in seen}) == 3


def test_a_phase_trains_wider_operations(tmp_path: Path) -> None:
    space, trainer = (
        NASBench201(num_classes=4, channels=4, num_cells=1),
        TrainSettings(2, 48, device="cpu", eval_every=0),
    )
    phases = {"all": PhaseSettings(1, partial_channels=4), "some": PhaseSettings(1, strongest=2, partial_channels=2)}
    trained = train_supernet(
        space, make_data(), SupernetTraining(trainer, make, 32, phases, config={"seed": 0}), tmp_path
    )
    assert trained.sampler_state["partial_channels"] == 2
    assert {len(values) for values in trained.sampler_state["parameters"].values()} == {2}


def test_the_phases_of_the_published_search() -> None:
    """On cells of DARTS: 8 options on a sixth of the channels, then 4 on a quarter, "none" always among them."""
    space = DARTS(num_classes=4, channels=12, num_cells=4)
    phases = {"all": PhaseSettings(25), "strongest": PhaseSettings(25, strongest=4, partial_channels=4)}
    assert list(plan_phases(phases, space, 4)) == ["all", "strongest"]
    before = make(space, partial_channels=6)
    state = before.state_dict()
    assert state["partial_channels"] == 6
    restored = make(space, partial_channels=3)
    restored.load_state_dict(state)
    assert restored.relaxed().partial_channels == 6


def test_what_is_refused() -> None:
    space = ToyCell()
    with pytest.raises(
        ValueError, match=r"phases\.some\.strongest keeps options of the phase before, and some is the first"
    ):
        plan_phases({"some": PHASES["some"]}, space)
    with pytest.raises(ValueError, match=r"phases\.some\.strongest is at most 3, as many as a choice has, not 4"):
        plan_phases({"all": PHASES["all"], "some": PhaseSettings(1, strongest=4)}, space)
    with pytest.raises(ValueError, match=r"phases\.some\.strongest=2 needs a sampler that learns .* by gradient"):
        check_strongest(PHASES, UniformSampler(space, 0))
    for name in ("strongest", "partial_channels"):
        with pytest.raises(ValueError, match=f"a phase's {name} is at least 1, not 0"):
            functools.partial(PhaseSettings, **{name: 0})()
