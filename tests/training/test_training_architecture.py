"""Architectures that learn by gradient beside the weights: what each of the two steps moves, and from which images."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from architecture_runs import make_task, make_trainer
from torch import Tensor, nn
from torch.func import functional_call
from toy_spaces import ToyCell, make_data
from training_runs import differences, values_of

from oneshot.mix import Mix
from oneshot.pipeline.relaxed import part_of_architecture
from oneshot.samplers import (
    ArchitectureLearning,
    EarlyStopping,
    HardGumbel,
    Moment,
    Smoothing,
    Temperature,
)
from oneshot.spaces.mixed import Mixed
from oneshot.supernet import Supernet
from oneshot.training import (
    Trainer,
    TrainSettings,
)
from oneshot.training.curvature import largest_eigenvalue
from oneshot.training.unrolling import unrolled_gradients

MOMENT = Moment(0, 0, 2)


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
