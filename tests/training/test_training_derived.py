"""Whole runs of architectures that learn by gradient: what they record, derive and warn of."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from architecture_runs import make_task, make_trainer
from child_processes import start, wait
from killed_runs import train
from toy_spaces import ToyCell, ToySpace, make_data
from training_runs import CPU, differences, values_of

from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.pipeline.relaxed import Strongest, canonical_notes, part_of_architecture, relaxed_scores, write_derived
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import (
    ArchitectureLearning,
    DifferentiableSampler,
    EarlyStopping,
    HardGumbel,
    Moment,
    Temperature,
)
from oneshot.spaces import DARTS, NASBench201
from oneshot.supernet import Supernet
from oneshot.training import (
    PhaseSettings,
    TrainSettings,
    load_newest,
)


def run(folder: Path, make_sampler: Callable[..., DifferentiableSampler]) -> Supernet:
    trainer = TrainSettings(epochs=3, batch_size=16, device="cpu", log_every=1, eval_every=1, warmup_epochs=0)
    training = SupernetTraining(trainer, make_sampler, 32, config={"seed": 0})
    return train_supernet(ToyCell(), make_data(), training, folder).supernet


def test_a_run_records_what_it_learned_and_is_read_back(tmp_path: Path) -> None:
    samplers: list[DifferentiableSampler] = []

    def make_sampler(space: ToyCell, **changes: object) -> DifferentiableSampler:
        learning = ArchitectureLearning(lr=0.05, images=0.5)
        samplers.append(DifferentiableSampler(space, 0, HardGumbel(Temperature(4.0, 1.0)), learning))
        return samplers[-1]

    run(tmp_path, make_sampler)
    assert values_of(tmp_path, "architecture_temperature/temperature") == [4.0, 2.5, 1.0]
    assert len(values_of(tmp_path, "architecture_entropy/nats")) == 3
    assert len(values_of(tmp_path, "architecture_loss/architecture")) == 3
    assert len(values_of(tmp_path, "derived_skips/skip connections")) == 3
    policies = values_of(tmp_path, "policy")
    assert [list(policy) for policy in policies] == [["node1.from0", "node2.from0", "node2.from1"]] * 3  # type: ignore[arg-type]
    record = json.loads((tmp_path / "derived.json").read_text())
    assert record["trained"] == samplers[0].derived()
    state = load_newest(tmp_path / "checkpoints")
    assert state is not None
    space = ToyCell()
    supernet = Supernet(space)
    supernet.load_state_dict(state["model"])
    again = make_sampler(space)
    again.load_state_dict(state["task"]["sampler"])
    data, _ = part_of_architecture(make_data(), 0.5, TrainSettings(seed=0))
    scores = relaxed_scores(
        supernet, Evaluator(supernet, data, ScoreSettings(calibration_images=32), device=CPU), again
    )
    assert {name: values_of(tmp_path, name)[-1] for name in scores} == pytest.approx(scores)


def test_a_space_that_cannot_be_mixed_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    training = SupernetTraining(
        TrainSettings(epochs=1, device="cpu"), lambda part, **changes: DifferentiableSampler(part)
    )
    with pytest.raises(ValueError, match=r"choice 'width' has 2 options, .* write make\.choose\('width'"):
        train_supernet(ToySpace(), make_data(), training, tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*")) if (tmp_path / "checkpoints").exists() else True


def test_a_killed_run_ends_with_the_same_architecture(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert wait(start(train, "architecture", str(undisturbed))) == 0
    for place, number in (("step", 3), ("checkpoint", 4)):
        assert wait(start(train, "architecture", str(killed), place, number)) == -9
    assert wait(start(train, "architecture", str(killed))) == 0
    found, wanted = (load_newest(folder / "checkpoints") for folder in (killed, undisturbed))
    assert found is not None
    assert wanted is not None
    for part in ("model", "optimizer", "task"):
        assert differences(found[part], wanted[part]) == []
    assert (killed / "derived.json").read_text() == (undisturbed / "derived.json").read_text()


def test_an_eigenvalue_is_that_of_the_whole_mix(tmp_path: Path) -> None:
    """Dropout of skip connections draws outside of the steps, too, if it is let."""
    found = []
    for number in range(2):
        task = make_task(ArchitectureLearning(lr=0.05, stopping=EarlyStopping(every=1, ratio=None)))
        task.sampler.skip_dropout = 0.5
        torch.manual_seed(number)
        make_trainer(task, tmp_path / str(number)).run()
        found.append(task.facts()["largest eigenvalue"])
    assert found[0] == found[1]


def test_a_tuning_keeps_schedules_where_they_ended_and_judges_nothing() -> None:
    task = make_task(ArchitectureLearning(lr=1e-9), ended_after=20)
    assert task.moment(3) == Moment(3, 19, 20)
    assert "warning" not in task.facts()


def test_what_never_learned_is_not_told_to_learn_faster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make_trainer(make_task(ArchitectureLearning(first_epoch=100)), tmp_path).run()
    assert "the architecture never learns" in caplog.text
    assert "as good as undecided" not in caplog.text


def test_a_run_says_what_speaks_against_what_it_derived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Equal weights decide nothing; clear ones, most of them of skip connections, may be a collapse."""
    for strength, sign in ((0.1, "3 of 3 choices are as good as undecided"), (5.0, "search may have collapsed")):
        caplog.clear()
        task = make_task(ArchitectureLearning(lr=1e-9))
        for choice in task.sampler.space.choices:
            is_skip = torch.tensor([float(option == "skip_connect") for option in choice.options])
            task.sampler.parameters[choice.name].data = strength * is_skip
        with caplog.at_level(logging.WARNING):
            make_trainer(task, tmp_path / str(strength)).run()
        both = ["search may have collapsed", "3 of 3 choices are as good as undecided"]
        warnings = [
            record.getMessage() for record in caplog.records if any(each in record.getMessage() for each in both)
        ]
        assert sum(sign in warning for warning in warnings) == 1
        assert task.facts()["warning"] == "; ".join(warnings)
        assert len(warnings) == (2 if strength < 1 else 1)


def test_a_derived_network_that_sees_nothing_is_told() -> None:
    said = "nothing leads from the input of the derived network to its output"
    for option, is_said in (("none", True), ("skip_connect", False)):
        task = make_task(ArchitectureLearning(lr=1e-9))
        for choice in task.sampler.space.choices:
            task.sampler.parameters[choice.name].data = torch.tensor([9.0 * (one == option) for one in choice.options])
        assert (said in task.facts().get("warning", "")) == is_said


def test_phases_mix_the_options_that_they_open(tmp_path: Path) -> None:
    """Each phase has architecture parameters of its own, over its part of the options."""
    trainer = TrainSettings(epochs=2, batch_size=16, device="cpu", eval_every=0, warmup_epochs=0)
    phases = {"few": PhaseSettings(epochs=1, largest={"*": 2}), "all": PhaseSettings(epochs=1)}
    parts: list[DifferentiableSampler] = []

    def make_sampler(space: ToyCell, **changes: object) -> DifferentiableSampler:
        parts.append(DifferentiableSampler(space, 0))
        return parts[-1]

    train_supernet(ToyCell(), make_data(), SupernetTraining(trainer, make_sampler, 32, phases), tmp_path)
    recorded = [list(policy["node2.from1"]) for policy in values_of(tmp_path, "policy")]  # type: ignore[index]
    assert recorded == [["skip_connect", "conv"], ["none", "skip_connect", "conv"]]
    assert [len(part.parameters["node2.from1"]) for part in parts] == [2, 3]


def test_what_cannot_be_inherited_is_said() -> None:
    space = NASBench201(num_classes=4, channels=4, num_cells=1)
    trained = {choice.name: "nor_conv_3x3" for choice in space.choices}
    sampler = DifferentiableSampler(space, 0)

    def derive(values: Mapping[str, str]) -> None:
        for choice in space.choices:
            sampler.parameters[choice.name].data = torch.tensor(
                [float(o == values[choice.name]) for o in choice.options]
            )

    derive(trained)
    assert canonical_notes(sampler) == []
    # The second node is computed from the input in both; that it is the second is not canonical.
    derive(dict.fromkeys(trained, "none") | {"node2.from0": "nor_conv_3x3", "node3.from2": "skip_connect"})
    (note,) = canonical_notes(sampler)
    assert "choices differ, node" in note
    assert sampler.derived() != dict(sampler.derive(0)[0])


def test_the_next_stage_is_trained_on_the_options_that_one_found_strongest(tmp_path: Path) -> None:
    space = DARTS(num_classes=4, channels=2, num_cells=4).restrict({"reduce.node2.from0": ["skip_connect"]})
    sampler = DifferentiableSampler(space, 3)
    edge = "normal.node3.from2"
    sampler.parameters[edge].data = torch.tensor([-1.0, 3.0, 0.5, 2.0, 0.4, 0.3, 2.5, 0.1])
    write_derived(tmp_path / "derived.json", sampler)
    larger = DARTS(num_classes=4, channels=2, num_cells=7)
    options = Strongest(str(tmp_path), 4).of(larger)
    assert set(options[edge]) == {
        "none",
        "skip_connect",
        "sep_conv_3x3",
        "max_pool_3x3",
    }  # with the weakest, for edges that go
    part = larger.restrict(options)
    assert {len(choice.options) for choice in part.choices} == {1, 4}
    assert len(dict.fromkeys(DifferentiableSampler(part, 0).derived())) == 28
    cell = NASBench201(num_classes=4, channels=4, num_cells=1)
    write_derived(tmp_path / "derived.json", DifferentiableSampler(cell, 0))
    strengths = DifferentiableSampler(cell, 0).strengths()
    for name, kept in Strongest(str(tmp_path), 2).of(cell).items():
        assert kept == [cell.choices[0].options[index] for index in strengths[name].topk(2).indices]
    assert Strongest().of(cell) == {}
    with pytest.raises(ValueError, match=r"strongest\.run, .* and strongest\.options, .* go together"):
        Strongest(run="somewhere")
    with pytest.raises(ValueError, match=r"strongest\.options is at least 1, not 0"):
        Strongest("somewhere", 0)
    with pytest.raises(ValueError, match=r"strongest\.options is at most 5, as many as a choice of .* has, not 6"):
        Strongest(str(tmp_path), 6).of(cell)
    assert Strongest(str(tmp_path), 5).of(cell).keys() == strengths.keys()
    with pytest.raises(FileNotFoundError, match=r"strongest\.run: there is no .*derived\.json"):
        Strongest(str(tmp_path / "no"), 2).of(cell)
    (tmp_path / "derived.json").write_text("{}")
    with pytest.raises(ValueError, match=r"derived\.json holds no strengths of options"):
        Strongest(str(tmp_path), 2).of(cell)
