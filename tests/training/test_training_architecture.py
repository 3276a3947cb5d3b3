"""Architectures that learn by gradient beside the weights: what each of the two steps moves, and from which images."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from child_processes import start, wait
from killed_runs import train
from torch import Tensor, nn
from torch.func import functional_call
from toy_spaces import ToyCell, ToySpace, make_data
from training_runs import CPU, differences, values_of

from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.mix import Mix
from oneshot.pipeline.relaxed import Strongest, canonical_notes, part_of_architecture, relaxed_scores, write_derived
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import (
    ArchitectureLearning,
    DifferentiableSampler,
    EarlyStopping,
    HardGumbel,
    Moment,
    Relaxation,
    Smoothing,
    Temperature,
)
from oneshot.spaces import DARTS, NASBench201
from oneshot.spaces.mixed import Mixed
from oneshot.supernet import Supernet
from oneshot.training import (
    ArchitectureImages,
    ArchitectureTask,
    PhaseSettings,
    RunPart,
    Trainer,
    TrainSettings,
    load_newest,
)
from oneshot.training.curvature import largest_eigenvalue
from oneshot.training.unrolling import unrolled_gradients

MOMENT = Moment(0, 0, 2)


def make_task(
    learning: ArchitectureLearning | None = None,
    relaxation: Relaxation | None = None,
    epochs: int = 2,
    ended_after: int | None = None,
) -> ArchitectureTask:
    torch.manual_seed(0)
    space = ToyCell()
    sampler = DifferentiableSampler(space, 0, relaxation, learning or ArchitectureLearning(lr=0.05))
    data = make_data()
    images = None if sampler.architecture_images == 0 else ArchitectureImages(data.train, data, 16, 0)
    return ArchitectureTask(Supernet(space), sampler, images, 6, epochs, ended_after=ended_after)


def make_trainer(task: ArchitectureTask, folder: Path, **settings: object) -> Trainer:
    values = {"epochs": 2, "batch_size": 16, "lr": 0.1, "warmup_epochs": 0, "device": "cpu", "log_every": 1}
    return Trainer(
        task,
        make_data(),
        TrainSettings(**values | settings),  # type: ignore[arg-type]
        RunPart(folder, {"config": {}, "space": {}, "classes": []}),
        lambda module: {},
    )


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


# The two steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_step_of_the_architecture_leaves_weights_and_statistics_as_they_are(tmp_path: Path, order: str) -> None:
    task = make_task(ArchitectureLearning(order=order, lr=0.05))
    trainer = make_trainer(task, tmp_path, lr=0.0, weight_decay=0.0)
    before, parameters = copies(task.module.state_dict()), copies(task.sampler.parameters)
    trainer.run()
    moved = differences(copies(task.module.state_dict()), before)
    assert all("running" in name or "num_batches" in name for name in moved)
    counts = [value for name, value in task.module.state_dict().items() if name.endswith("num_batches_tracked")]
    assert set(map(int, counts)) <= {12, 24}, (
        "only passes of the weights update statistics, once for each call of a norm"
    )
    assert len(differences(copies(task.sampler.parameters), parameters)) == len(parameters)


def test_a_step_of_the_weights_leaves_the_architecture_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Decay, clipping and averages included; and a frozen architecture is said to be frozen."""
    with caplog.at_level(logging.INFO):
        task = make_task(ArchitectureLearning(lr=0.05, first_epoch=1))
    assert "frozen until epoch 1" in caplog.text
    kept = copies(task.sampler.parameters)
    weights = copies(task.module.state_dict())
    make_trainer(task, tmp_path, epochs=1, weight_decay=0.1, clip_grad=0.1, ema_decay=0.9).run()
    assert differences(copies(task.sampler.parameters), kept) == []
    assert differences(copies(task.module.state_dict()), weights)
    assert not any("node" in name and "parameters" in name for name in task.module.state_dict())
    assert all(values.grad is None for values in task.sampler.parameters.values())
    make_task(ArchitectureLearning(first_epoch=2))
    assert "first_epoch=2 of 2 epochs: the architecture never learns" in caplog.text


def test_the_gate_of_gdas_has_the_gradient_of_what_it_passes() -> None:
    """<d loss / d sum, output of the option> for the drawn option, and zero for the others."""
    task = make_task(relaxation=HardGumbel(Temperature(1.0, 1.0)))
    supernet = task.supernet.train()
    mix = task.sampler.mix(MOMENT)
    outputs: dict[str, list[Tensor]] = {}
    skeleton = supernet._relaxed()[0].network
    for module in skeleton.modules():
        if isinstance(module, Mixed):
            for index, option in enumerate(module.options):
                key = f"{module.choice} {module.places.index(index)}"
                option.register_forward_hook(functools.partial(_keep, outputs.setdefault(key, [])))
            module.register_forward_hook(lambda m, _i, out: _watch(m.choice, out, outputs))
    x = torch.randn(4, 3, 8, 8)
    weights = [mix[name] for name in mix]
    found = dict(zip(mix, torch.autograd.grad(supernet(x, mix).square().sum(), weights), strict=True))
    for name in mix:
        drawn = mix.numbers(name).index(1.0)
        others = [position for position in range(len(mix[name])) if position != drawn]
        assert (found[name][others] == 0).all()
        key = f"{name} {drawn}"
        expected = sum(
            float((out * grad).sum()) for out, grad in zip(outputs.get(key, []), outputs[f"grad {name}"], strict=False)
        )
        assert float(found[name][drawn]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def _keep(outputs: list[Tensor], module: nn.Module, inputs: object, output: Tensor) -> None:
    outputs.append(output.detach())


def _watch(choice: str, out: Tensor, outputs: dict[str, list[Tensor]]) -> None:
    grads = outputs.setdefault(f"grad {choice}", [])
    position = len(grads)
    grads.append(torch.zeros(()))
    if out.requires_grad:
        out.register_hook(lambda grad: grads.__setitem__(position, grad.detach()))


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_second_order_is_that_of_exact_differentiation(nesterov: bool) -> None:
    torch.manual_seed(1)
    supernet = Supernet(ToyCell()).double().train()
    alphas = {c.name: torch.randn(3, dtype=torch.float64, requires_grad=True) for c in supernet.space.choices}
    batches = [(torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.randint(4, (6,))) for _ in range(2)]
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01, nesterov=nesterov)

    def loss(batch: tuple[Tensor, Tensor], weights: Mapping[str, Tensor] | None = None) -> Tensor:
        mix = Mix({name: alpha.softmax(0) for name, alpha in alphas.items()})
        given = (batch[0], mix, False, False)
        logits = supernet(*given) if weights is None else functional_call(supernet, dict(weights), given)
        return nn.functional.cross_entropy(logits, batch[1])

    loss(batches[1]).backward()
    optimizer.step()  # so that there is momentum
    optimizer.zero_grad()
    weights = dict(supernet.named_parameters())
    kept = copies(weights)
    gradients = torch.autograd.grad(loss(batches[0], weights), list(weights.values()), create_graph=True)
    stepped = {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        moved = gradient + 0.01 * weight
        velocity = 0.9 * optimizer.state[weight]["momentum_buffer"] + moved
        stepped[name] = weight - 0.3 * (moved + 0.9 * velocity if nesterov else velocity)
    exact = torch.autograd.grad(loss(batches[1], stepped), list(alphas.values()))
    first = torch.autograd.grad(loss(batches[1]), list(alphas.values()))

    def unrolled(epsilon: float) -> list[Tensor]:
        found = unrolled_gradients(
            optimizer, list(alphas.values()), lambda: loss(batches[0]), lambda: loss(batches[1]), epsilon
        )
        return [gradient for gradient in found if gradient is not None]

    assert differences(copies(weights), kept) == []
    error = {e: max(float((a - b).abs().max()) for a, b in zip(unrolled(e), exact, strict=True)) for e in (1e-2, 1e-4)}
    assert differences(copies(weights), kept) == []
    scale = max(float(gradient.abs().max()) for gradient in exact)
    assert error[1e-4] < 1e-6 * scale
    assert error[1e-2] > 10 * error[1e-4], "the published step is measured as coarsely as it is"
    assert max(float((a - b).abs().max()) for a, b in zip(first, exact, strict=True)) > 0.1 * scale


def test_the_second_order_needs_sgd(tmp_path: Path) -> None:
    task = make_task(ArchitectureLearning(order="second"))
    with pytest.raises(ValueError, match=r"set trainer\.optimizer to sgd or momentum, not .* AdamW"):
        make_trainer(task, tmp_path, optimizer="adamw").run()


def test_weights_and_architecture_may_learn_from_one_batch(tmp_path: Path) -> None:
    task = make_task(ArchitectureLearning(order="joint", images=0, lr=0.05))
    kept = copies(task.sampler.parameters)
    weights = copies(task.module.state_dict())
    make_trainer(task, tmp_path, epochs=1).run()
    assert len(differences(copies(task.sampler.parameters), kept)) == len(kept)
    assert differences(copies(task.module.state_dict()), weights)


# Beside any method ---------------------------------------------------------------------------------------------------


def test_the_eigenvalue_is_that_of_the_hessian_by_finite_differences() -> None:
    torch.manual_seed(1)
    supernet = Supernet(ToyCell()).double().train()
    names = [choice.name for choice in supernet.space.choices]
    x, labels = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.randint(4, (6,))

    def loss(*alphas: Tensor) -> Tensor:
        mix = Mix({name: alpha.softmax(0) for name, alpha in zip(names, alphas, strict=True)})
        return nn.functional.cross_entropy(supernet(x, mix, False, "batch"), labels)

    alphas = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in names]

    def slope(place: int, move: float) -> Tensor:
        moved = (
            torch.cat(alphas).detach().index_add(0, torch.tensor([place]), torch.tensor([move], dtype=torch.float64))
        )
        parts = [part.clone().requires_grad_() for part in moved.split(3)]
        return torch.cat(torch.autograd.grad(loss(*parts), parts))

    rows = [(slope(place, 1e-5) - slope(place, -1e-5)) / 2e-5 for place in range(9)]
    exact = torch.linalg.eigvalsh(torch.stack(rows))[-1]
    assert largest_eigenvalue(loss(*alphas), alphas, tolerance=1e-9) == pytest.approx(float(exact), rel=1e-5)


def test_an_architecture_that_becomes_sharp_goes_back_and_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = iter([1.0, 1.1, 1.2, 2.0, 3.0])
    monkeypatch.setattr("oneshot.training.curvature.largest_eigenvalue", lambda loss, parameters: next(values))
    stopping = EarlyStopping(every=1, window=1, distance=2, first_epoch=1)
    task = make_task(ArchitectureLearning(lr=0.05, stopping=stopping), epochs=5)
    trainer = make_trainer(task, tmp_path, epochs=5)
    kept: list[dict[str, Tensor]] = []
    end_epoch = task.end_epoch

    def watch(step: int, engine: Trainer) -> Mapping[str, float]:
        kept.append(copies(task.sampler.parameters))
        return end_epoch(step, engine)

    monkeypatch.setattr(task, "end_epoch", watch)
    trainer.run()
    # 1.1 / 2.0 is below 0.75: as of the second epoch, after the fourth.
    assert differences(kept[3], kept[2])
    assert differences(kept[4], kept[1]) == []
    assert differences(copies(task.sampler.parameters), kept[1]) == []
    assert "the architecture is frozen: after epoch 4" in caplog.text
    assert "it is that of epoch 2" in caplog.text
    assert values_of(tmp_path, "architecture_eigenvalue/largest eigenvalue") == [1.0, 1.1, 1.2, 2.0, 3.0]
    page = (tmp_path / "training.html").read_text()
    assert "frozen: after epoch 4" in page
    assert "from 1 to 3" in page
    again = make_task(ArchitectureLearning(lr=0.05, stopping=stopping), epochs=5)
    again.load_state_dict(task.state_dict())
    assert again.state_dict()["curvature"] == task.state_dict()["curvature"]
    assert again.facts() == task.facts()


def test_a_training_that_is_too_short_to_be_stopped_says_so(caplog: pytest.LogCaptureFixture) -> None:
    make_task(ArchitectureLearning(stopping=EarlyStopping()), epochs=21)
    assert "stopping never stops in 21 epochs: it compares 7 eigenvalues, one every 2 epochs" in caplog.text
    caplog.clear()
    make_task(ArchitectureLearning(stopping=EarlyStopping()), epochs=22)
    make_task(ArchitectureLearning(stopping=EarlyStopping(ratio=None)))
    assert not caplog.text


def test_a_sharp_architecture_needs_a_mixture() -> None:
    with pytest.raises(ValueError, match=r"stopping needs the second derivatives of a mixture"):
        make_task(ArchitectureLearning(stopping=EarlyStopping()), HardGumbel())


def test_smoothing_changes_what_the_weights_learn_on_and_nothing_else(tmp_path: Path) -> None:
    parameters, weights = [], []
    for name, regularisers in (("plain", {}), ("smooth", {"smooth": Smoothing("adversarial", 0.3, 0.3, steps=2)})):
        task = make_task(ArchitectureLearning(lr=0.05, every=6))
        task.sampler.regularisers = dict(regularisers)
        make_trainer(task, tmp_path / name, epochs=1).run()
        parameters.append(copies(task.sampler.parameters))
        weights.append(copies(task.module.state_dict()))
    assert differences(*parameters) == [], "the architecture took its one step before the weights"
    assert differences(*weights)
    counts = [[value for key, value in one.items() if key.endswith("num_batches_tracked")] for one in weights]
    assert counts[0] == counts[1], "passes of the ascent leave statistics as they are"


# Images --------------------------------------------------------------------------------------------------------------


def test_the_architecture_has_images_of_its_own_and_other_ones_at_each_step() -> None:
    data = make_data()
    kept, images = part_of_architecture(data, 0.25, TrainSettings(batch_size=8))
    assert images is not None
    others = images.images
    assert len(others) == round(0.25 * len(data.train))
    assert set(kept.train.keys) | set(others.keys) == set(data.train.keys)
    assert not set(kept.train.keys) & set(others.keys)
    assert kept.held_out is data.held_out
    count = len(others) // 8
    batches = [images.batch(step) for step in range(2 * count)]
    assert len({batch.numpy().tobytes() for batch, _ in batches}) == 2 * count
    assert torch.equal(images.batch(3)[0], batches[3][0])
    assert part_of_architecture(data, 0, TrainSettings())[1] is None
    with pytest.raises(ValueError, match=r"images=0\.001 of \d+ training images leaves 0 to the architecture"):
        part_of_architecture(data, 0.001, TrainSettings())


# Whole runs ----------------------------------------------------------------------------------------------------------


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
