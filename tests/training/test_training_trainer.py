"""The training loop: order of the images, updates of the weights, schedule, moving average, record."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_spaces import ToySpace, make_data, make_images
from training_runs import (
    RecordedImages,
    Scripted,
    copy_state,
    differences,
    make_trainer,
    records,
    values_of,
)

from oneshot.arch import Arch
from oneshot.data import Augmentation, TensorImages, digits
from oneshot.devices import resolve_device
from oneshot.samplers import FairSampler, SandwichSampler, UniformSampler
from oneshot.supernet import Supernet
from oneshot.training import NonFiniteLossError

SPACE = ToySpace()
LARGE = SPACE.arch({"resolution": 8, "width": 8, "depth": 2, "op": "conv3", "kernel": 3})
SMALL = SPACE.arch({"resolution": 8, "width": 8, "depth": 1, "op": "conv1"})


# Images --------------------------------------------------------------------------------------------------------------


def recorded_run(folder: Path, num_images: int, batch_size: int, epochs: int, seed: int = 0) -> list[Tensor]:
    images = RecordedImages(make_images(num_images, seed=1))
    make_trainer(folder, data=replace(make_data(), train=images), batch_size=batch_size, epochs=epochs, seed=seed).run()
    return images.asked


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(tmp_path: Path) -> None:
    asked = recorded_run(tmp_path, 96, 16, epochs=3)
    assert [len(batch) for batch in asked] == [16] * 18
    epochs = [torch.cat(asked[start : start + 6]).tolist() for start in (0, 6, 12)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(96))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0] != list(range(96))


def test_the_last_incomplete_batch_is_left_out_and_differs_between_epochs(tmp_path: Path) -> None:
    asked = recorded_run(tmp_path, 50, 16, epochs=8)
    assert [len(batch) for batch in asked] == [16] * 24
    left_out = []
    for epoch in range(8):
        images = torch.cat(asked[3 * epoch : 3 * epoch + 3]).tolist()
        assert len(set(images)) == 48
        left_out.append(frozenset(range(50)) - frozenset(images))
    assert len(set(left_out)) > 5


def test_the_order_depends_on_the_seed_only(tmp_path: Path) -> None:
    first, second, other = (
        torch.cat(recorded_run(tmp_path / name, 32, 8, epochs=1, seed=seed)).tolist()
        for name, seed in (("first", 0), ("second", 0), ("other", 1))
    )
    assert first == second != other


def test_a_set_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    assert [len(batch) for batch in recorded_run(tmp_path, 10, 64, epochs=2)] == [10, 10]


def test_images_are_augmented_anew_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of copies of one image every step makes other crops."""
    seen: list[tuple[int, ...]] = []
    copies = TensorImages(make_images(1, seed=1).images.repeat(16, 1, 1, 1), torch.zeros(16, dtype=torch.int64))
    data = replace(make_data(augmentation=Augmentation(crop_padding=2)), train=copies)
    trainer = make_trainer(tmp_path, data=data, epochs=4)
    original = trainer.prepare

    def watch(images: Tensor, resolution: int) -> Tensor:
        seen.append(tuple(images.flatten(1).sum(1).sort().values.tolist()))
        return original(images, resolution)

    monkeypatch.setattr(trainer, "prepare", watch)
    trainer.run()
    assert len(set(seen)) == 4
    assert len(set(seen[0])) > 4


# Weights -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_mode", ["norm", "value", "agc"])
def test_what_is_not_sampled_does_not_move(tmp_path: Path, clip_mode: str) -> None:
    """Momentum and weight decay move every parameter that has a gradient, were it zero."""
    halfway: dict[str, Tensor] = {}

    def watch(step: int) -> None:
        if step == 6:
            halfway.update(copy_state(trainer.task.module))

    trainer = make_trainer(
        tmp_path,
        sampler=lambda space: Scripted(space, lambda step: [LARGE, SMALL] if step < 6 else [SMALL], watch),
        weight_decay=0.1,
        momentum=0.9,
        clip_mode=clip_mode,
        clip_grad=0.5,
    )
    trainer.run()
    unsampled = [name for name in halfway if name.startswith(("bank.block.", "bank.op.conv3."))]
    assert len(unsampled) == 12
    momenta = {id(parameter): state["momentum_buffer"] for parameter, state in trainer.optimizer.state.items()}
    parameters = dict(trainer.task.module.named_parameters())
    for name, tensor in trainer.task.module.state_dict().items():
        if name in unsampled:
            assert torch.equal(tensor, halfway[name]), name
        else:
            assert not torch.equal(tensor, halfway[name]), name
        if name in parameters and name in unsampled:
            assert momenta[id(parameters[name])].abs().max() > 0


def first_update(folder: Path, **settings: object) -> dict[str, Tensor]:
    """What the first step adds to each weight; constant learning rate 0.5."""
    common = {"epochs": 1, "batch_size": 96, "lr": 0.5, "warmup_epochs": 0.0, "weight_decay": 0.0}
    trainer = make_trainer(folder, **(common | settings))  # type: ignore[arg-type]
    before = {name: parameter.detach().clone() for name, parameter in trainer.task.module.named_parameters()}
    trainer.run()
    return {name: parameter.detach() - before[name] for name, parameter in trainer.task.module.named_parameters()}


def test_gradients_are_clipped(tmp_path: Path) -> None:
    plain = first_update(tmp_path / "plain", clip_grad=None, momentum=0.0)
    norm = math.sqrt(sum(float(update.square().sum()) for update in plain.values()))
    clipped = first_update(tmp_path / "norm", clip_grad=norm / 0.5 / 3, momentum=0.0)
    for name, update in plain.items():
        torch.testing.assert_close(clipped[name], update / 3, rtol=1e-3, atol=1e-6)
    loose = first_update(tmp_path / "loose", clip_grad=norm / 0.5 * 2, momentum=0.0)
    assert not differences(loose, plain)
    largest = max(float(update.abs().max()) for update in plain.values())
    by_value = first_update(tmp_path / "value", clip_grad=largest / 0.5 / 2, clip_mode="value", momentum=0.0)
    for name, update in plain.items():
        torch.testing.assert_close(by_value[name], update.clamp(-largest / 2, largest / 2), rtol=1e-4, atol=1e-6)
    assert differences(first_update(tmp_path / "agc", clip_grad=1e-3, clip_mode="agc", momentum=0.0), plain)


@pytest.mark.parametrize("optimizer", ["sgd", "SGD"])
def test_momentum_reaches_the_optimizer(tmp_path: Path, optimizer: str) -> None:
    """The first step of Nesterov's momentum is (1 + momentum) times that of plain descent."""
    plain = first_update(tmp_path / "plain", clip_grad=None, momentum=0.0, optimizer=optimizer)
    moved = first_update(tmp_path / "moved", clip_grad=None, momentum=0.5, optimizer=optimizer)
    for name, update in plain.items():
        torch.testing.assert_close(moved[name], 1.5 * update, rtol=1e-3, atol=1e-6)


def test_biases_and_normalisation_do_not_decay(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, weight_decay=0.1)
    names = {parameter: name for name, parameter in trainer.task.module.named_parameters()}
    for group in trainer.optimizer.param_groups:
        decays = {names[parameter].endswith(("conv.weight", "classifier.weight")) for parameter in group["params"]}
        assert decays == {group["weight_decay"] > 0}


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "lamb"])
def test_other_optimizers_train(tmp_path: Path, optimizer: str) -> None:
    trainer = make_trainer(tmp_path, optimizer=optimizer, lr=0.01)
    before = copy_state(trainer.task.module)
    trainer.run()
    assert len(differences(before, copy_state(trainer.task.module))) > 15


@pytest.mark.parametrize(
    ("epochs", "warmup_epochs", "warmup_steps"), [(5, 1.0, 6), (5, 0.0, 0), (5, 1.5, 9), (2, 5.0, 6), (1, 1.0, 3)]
)
def test_the_learning_rate_warms_up_and_follows_a_cosine(
    tmp_path: Path, epochs: int, warmup_epochs: float, warmup_steps: int
) -> None:
    make_trainer(tmp_path, epochs=epochs, warmup_epochs=warmup_epochs, lr=0.3, min_lr=0.01, log_every=1).run()
    total = 6 * epochs
    expected = [
        0.003 + (0.3 - 0.003) * step / warmup_steps
        if step < warmup_steps
        else 0.01 + (0.3 - 0.01) * (1 + math.cos(math.pi * (step - warmup_steps) / (total - warmup_steps))) / 2
        for step in range(total)
    ]
    assert max(expected) == 0.3
    assert values_of(tmp_path, "lr/lr") == pytest.approx(expected)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_of_the_weights(tmp_path: Path, decay: float) -> None:
    """Against the definition, in double precision; as timm's, it starts with the weights after the first two steps."""
    states: list[dict[str, Tensor]] = []
    trainer = make_trainer(
        tmp_path,
        sampler=lambda space: Scripted(
            space, UniformSampler(space).sample, lambda step: states.append(copy_state(trainer.task.module))
        ),
        ema_decay=decay,
    )
    best = trainer.run()
    states.append(copy_state(trainer.task.module))
    assert best is not trainer.task.module
    for name, tensor in best.state_dict().items():
        average = states[2][name].double()
        for state in states[3:]:
            average = decay * average + (1 - decay) * state[name].double()
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), average, rtol=1e-4, atol=1e-6)
    assert differences(copy_state(best), states[-1])


def test_without_an_average_the_weights_themselves_are_used(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert trainer.run() is trainer.task.module


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_evaluations_see_the_weights_to_rank_by(tmp_path: Path, ema_decay: float | None) -> None:
    seen = []

    def evaluate(module: torch.nn.Module) -> dict[str, float]:
        seen.append(module)
        return {"held_out_accuracy/largest": 0.5}

    trainer = make_trainer(tmp_path, evaluate=evaluate, ema_decay=ema_decay, epochs=5, eval_every=2)
    best = trainer.run()
    assert [record["step"] for record in records(tmp_path) if "held_out_accuracy/largest" in record] == [12, 24, 30]
    assert all(module is best for module in seen)


def test_evaluation_at_the_end_only(tmp_path: Path) -> None:
    make_trainer(tmp_path, evaluate=lambda module: {"a/b": 1.0}, epochs=3, eval_every=0).run()
    assert [record["step"] for record in records(tmp_path) if "a/b" in record] == [18]


# Losses that are not numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [False, True], ids=["first path", "second path"])
def test_a_loss_that_is_no_number_stops_the_run_before_the_weights_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: bool
) -> None:
    space = ToySpace(resolutions=(6, 8))
    large, small = space.largest, space.smallest
    archs: list[Arch] = [large, small] if second else [small, large]
    before: dict[str, Tensor] = {}

    def watch(step: int) -> None:
        before.clear()
        before.update({name: tensor.detach().clone() for name, tensor in trainer.task.module.named_parameters()})
        original = type(trainer).prepare
        poison = float("nan") if step == 7 else 0.0
        monkeypatch.setattr(
            trainer,
            "prepare",
            lambda images, size: original(trainer, images, size) + (poison if size == 6 else 0.0),
        )

    trainer = make_trainer(
        tmp_path, space, sampler=lambda space: Scripted(space, lambda step: archs, watch), checkpoint_seconds=0
    )
    with pytest.raises(NonFiniteLossError) as raised:
        trainer.run()
    assert "the loss is nan at step 7" in str(raised.value)
    assert small.to_json() in str(raised.value)
    assert not differences(before, {name: tensor.detach() for name, tensor in trainer.task.module.named_parameters()})
    monkeypatch.undo()
    repaired = make_trainer(tmp_path, space, sampler=lambda space: Scripted(space, lambda step: archs))
    assert all(bool(tensor.isfinite().all()) for tensor in repaired.run().state_dict().values())


# Learning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [UniformSampler, FairSampler, SandwichSampler])
def test_it_learns_digits(tmp_path: Path, sampler: type[UniformSampler | FairSampler | SandwichSampler]) -> None:
    data = digits(image_size=8, max_train_images=320, augmentation=Augmentation())
    make_trainer(
        tmp_path, ToySpace(num_classes=10), sampler, data, epochs=8, batch_size=32, log_every=20, label_smoothing=0.0
    ).run()
    losses, accuracies = values_of(tmp_path, "loss/train"), values_of(tmp_path, "accuracy/train")
    assert losses[0] > 1.9
    assert losses[-1] < 0.8 * losses[0]
    assert accuracies[-1] > 2 * accuracies[0]


def test_the_same_seed_gives_the_same_weights_whatever_the_global_generators(tmp_path: Path) -> None:
    space = ToySpace(dropout=0.3)
    states = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        states.append(copy_state(make_trainer(tmp_path / str(number), space, seed=seed).run()))
    assert not differences(states[0], states[1])
    assert differences(states[0], states[2])


def test_the_global_generators_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_trainer(tmp_path, ToySpace(dropout=0.5)).run()
    assert torch.equal(torch.rand(3), expected)


def test_every_step_draws_anew(tmp_path: Path) -> None:
    """Dropout of one step is not that of another, and that of a step is always the same."""
    drawn: dict[str, list[float]] = {"first": [], "second": []}
    for name, values in drawn.items():

        def watch(step: int, values: list[float] = values) -> None:
            values.append(float(torch.rand(())))

        make_trainer(
            tmp_path / name, sampler=lambda space, watch=watch: Scripted(space, UniformSampler(space).sample, watch)
        ).run()
    assert drawn["first"] == drawn["second"]
    assert len(set(drawn["first"])) == 12


def test_logging_does_not_change_what_is_learned(tmp_path: Path) -> None:
    states = [
        copy_state(make_trainer(tmp_path / str(every), log_every=every, checkpoint_seconds=every, epochs=3).run())
        for every in (1, 1000)
    ]
    assert not differences(*states)


# The record ----------------------------------------------------------------------------------------------------------


def test_the_record_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make_trainer(
            tmp_path, epochs=2, log_every=5, eval_every=1, evaluate=lambda module: {"held_out_accuracy/largest": 0.25}
        ).run()
    assert [(record["step"], "loss/train" in record) for record in records(tmp_path)] == [
        (5, True),
        (6, False),
        (10, True),
        (12, True),
        (12, False),
    ]
    assert all(speed > 0 for speed in values_of(tmp_path, "speed/train"))
    page = (tmp_path / "training.html").read_text()
    assert "Training of the supernet" in page
    assert "accuracy on held-out images" in page
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    assert "epoch 1 of 2: held_out_accuracy/largest 0.2500" in caplog.text


def test_logged_loss_is_the_mean_since_the_line_before(tmp_path: Path) -> None:
    make_trainer(tmp_path / "each", log_every=1).run()
    make_trainer(tmp_path / "four", log_every=4).run()
    each = values_of(tmp_path / "each", "loss/train")
    assert len(each) == 12
    means = [sum(each[start : start + 4]) / 4 for start in (0, 4, 8)]
    assert values_of(tmp_path / "four", "loss/train") == pytest.approx(means)


def test_a_supernet_is_trained_on_one_architecture_of_each_option_by_the_fair_sampler(tmp_path: Path) -> None:
    counts: Counter[object] = Counter()
    fair = FairSampler(SPACE)

    def count(step: int) -> list[Arch]:
        archs = fair.sample(step)
        counts.update(arch["op"] for arch in archs)
        return archs

    trainer = make_trainer(tmp_path, sampler=lambda space: Scripted(space, count))
    assert isinstance(trainer.run(), Supernet)
    assert counts == {"conv1": 12, "conv3": 12}


# Devices -------------------------------------------------------------------------------------------------------------


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device 'gpu' cannot be used here"):
        resolve_device("gpu")
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used here"):
        resolve_device("cuda:99")
    with pytest.raises(ValueError, match="device 'meta' cannot be used here: it computes nothing"):
        resolve_device("meta")
