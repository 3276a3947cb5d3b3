"""Planning the phases of a training, and what each of them trains."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pipeline_runs import DATA, make_settings
from toy_spaces import ToySpace
from training_runs import copy_state, differences, records

from oneshot.arch import Arch
from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.pipeline.folders import Trained, load_subnet, load_supernet, load_weights
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import Sampler, UniformSampler
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import CheckpointError, Distillation, PhaseSettings, TrainSettings, plan_phases

OFA_PHASES = {
    "full": PhaseSettings(180, largest={"*.kernel": 1, "*.depth": 1, "*.expand": 1}),
    "kernel": PhaseSettings(125, lr=0.96, warmup_epochs=5.0, largest={"*.depth": 1, "*.expand": 1}),
    "depth1": PhaseSettings(25, largest={"*.depth": 2, "*.expand": 1}),
    "depth2": PhaseSettings(125, largest={"*.expand": 1}),
    "expand1": PhaseSettings(25, largest={"*.expand": 2}),
    "expand2": PhaseSettings(125, resolutions=[28, 32]),
}
TOY_PHASES = {
    "full": PhaseSettings(1, largest={"width": 1, "depth": 1, "kernel": 1}),
    "depth": PhaseSettings(1, largest={"width": 1}, lr=0.02, num_paths=2, distill=True),
    "width": PhaseSettings(2, resolutions=[8], num_paths=3, distill=True),
}
SPACE = ToySpace(resolutions=(6, 8))


def options_of(space: SearchSpace, name: str) -> tuple[object, ...]:
    return next(choice.options for choice in space.choices if choice.name == name)


def test_each_phase_opens_more_of_the_space() -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(24, 28, 32))
    parts = {name: phase.restrict(space) for name, phase in plan_phases(OFA_PHASES, space).items()}
    kernel, depth, expand = "stage2.block3.kernel", "stage2.depth", "stage2.block3.expand"
    opened = {name: (options_of(p, kernel), options_of(p, depth), options_of(p, expand)) for name, p in parts.items()}
    assert opened == {
        "full": ((7,), (4,), (6,)),
        "kernel": ((3, 5, 7), (4,), (6,)),
        "depth1": ((3, 5, 7), (3, 4), (6,)),
        "depth2": ((3, 5, 7), (2, 3, 4), (6,)),
        "expand1": ((3, 5, 7), (2, 3, 4), (4, 6)),
        "expand2": ((3, 5, 7), (2, 3, 4), (3, 4, 6)),
    }
    assert options_of(parts["full"], "resolution") == (24, 28, 32)
    assert options_of(parts["expand2"], "resolution") == (28, 32)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (None, [180, 125, 25, 125, 25, 125]),
        (605, [180, 125, 25, 125, 25, 125]),
        (1210, [360, 250, 50, 250, 50, 250]),
        (12, [4, 2, 1, 2, 1, 2]),
        (6, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_epochs_scale_in_proportion(epochs: int | None, expected: list[int]) -> None:
    planned = plan_phases(OFA_PHASES, OFAMobileNetV3(resolutions=(28, 32)), epochs)
    assert [phase.epochs for phase in planned.values()] == expected
    assert planned["kernel"].warmup_epochs == pytest.approx(5 * planned["kernel"].epochs / 125)
    assert planned["depth1"].warmup_epochs is None


def test_no_epochs_are_no_phases() -> None:
    assert plan_phases(OFA_PHASES, OFAMobileNetV3(resolutions=(28, 32)), 0) == {}


def test_fewer_epochs_than_phases() -> None:
    with pytest.raises(ValueError, match=r"trainer\.epochs is at least 1 for each of the 6 phases, not 5"):
        plan_phases(OFA_PHASES, OFAMobileNetV3(resolutions=(28, 32)), 5)


def test_a_phase_that_opens_nothing_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(28, 32), kernel_sizes=(5,), depths=(2, 3))
    with caplog.at_level(logging.INFO):
        planned = plan_phases(OFA_PHASES, space)
    assert list(planned) == ["full", "depth1", "expand1", "expand2"]
    assert "phase kernel adds no network" in caplog.text
    with pytest.raises(
        ValueError, match=r"no phase opens anything in NASBenchMacro.*\*\.depth, \*\.expand, \*\.kernel"
    ):
        plan_phases({name: OFA_PHASES[name] for name in ("full", "kernel", "depth1")}, NASBenchMacro())


def test_what_a_phase_refuses() -> None:
    with pytest.raises(ValueError, match=r"phases\.expand2: .*'resolution' cannot be 28"):
        plan_phases(OFA_PHASES, OFAMobileNetV3(resolutions=(24, 32)))
    for changes in ({"epochs": 0}, {"num_paths": 0}, {"image_size": 0}, {"largest": {"*.kernel": 0}}):
        with pytest.raises(ValueError, match="at least 1, not 0"):
            PhaseSettings(**changes)  # type: ignore[arg-type]


def test_a_phase_changes_what_it_names() -> None:
    settings = TrainSettings(lr=0.3, warmup_epochs=2.0, weight_decay=1e-3)
    applied = PhaseSettings(7, lr=0.01).apply(settings)
    assert (applied.epochs, applied.lr, applied.warmup_epochs, applied.weight_decay) == (7, 0.01, 2.0, 1e-3)


# Training ------------------------------------------------------------------------------------------------------------


class Watched(UniformSampler):
    """Remembers every architecture that was drawn, with the part of the space and the number of paths."""

    drawn: ClassVar[list[tuple[int, list[Arch]]]] = []

    def sample(self, step: int) -> list[Arch]:
        archs = super().sample(step)
        self.drawn.append((step, archs))
        return archs


def plain(trained: Trained) -> Supernet:
    assert isinstance(trained.supernet, Supernet)
    return trained.supernet


def run(folder: Path, make: type[Sampler] = UniformSampler, phases: dict[str, PhaseSettings] = TOY_PHASES) -> Supernet:
    settings = make_settings(epochs=4, log_every=1)
    training = SupernetTraining(settings, make, 64, phases, Distillation(label_weight=1.0))
    return plain(train_supernet(SPACE, DATA, training, folder))


def measured_state(supernet: Supernet, arch: Arch) -> dict[str, torch.Tensor]:
    """The weights of a subnet, and its statistics measured as everything that is kept has them."""
    return copy_state(Evaluator(supernet, DATA, ScoreSettings(64), device=torch.device("cpu")).subnet(arch))


def test_a_phase_on_small_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first phase trains all networks at 5 pixels, the second at their own sizes; both rank at their own."""
    sizes: list[tuple[bool, int]] = []
    plain = Supernet.forward

    def forward(self: Supernet, x: torch.Tensor, arch: Arch, *how: Any) -> torch.Tensor:
        sizes.append((self.training, x.shape[-1]))
        return plain(self, x, arch, *how)

    monkeypatch.setattr(Supernet, "forward", forward)
    phases = {"small": PhaseSettings(1, image_size=5), "whole": PhaseSettings(1)}
    assert plan_phases(phases, SPACE) == phases
    assert plan_phases(phases | {"again": PhaseSettings(2)}, SPACE) == phases
    run(tmp_path, phases=phases)
    trained = [size for training, size in sizes if training]
    assert trained[:6] == [5] * 6
    assert set(trained[6:]) == {6, 8}
    assert len(trained) == 12


def test_phases_follow_one_another(tmp_path: Path) -> None:
    Watched.drawn = []
    supernet = run(tmp_path, Watched)
    assert [step for step, _ in Watched.drawn] == list(range(24))
    full, depth, width = (Watched.drawn[start:end] for start, end in ((0, 6), (6, 12), (12, 24)))
    assert {len(archs) for _, archs in full} == {1}
    assert {(arch["width"], arch["depth"], arch["kernel"]) for _, archs in full for arch in archs} == {(8, 2, 3)}
    assert {len(archs) for _, archs in depth} == {2}
    assert {arch["width"] for _, archs in depth for arch in archs} == {8}
    assert {arch["depth"] for _, archs in depth for arch in archs} == {1, 2}
    assert {arch["resolution"] for _, archs in depth for arch in archs} == {6, 8}
    assert {len(archs) for _, archs in width} == {3}
    assert {arch["width"] for _, archs in width for arch in archs} == {4, 8}
    assert {arch["resolution"] for _, archs in width for arch in archs} == {8}
    rates = [record["lr/lr"] for record in records(tmp_path) if "lr/lr" in record]
    assert len(rates) == 24
    assert max(rates[6:12]) == pytest.approx(0.02)  # a cosine for each phase
    assert max(rates[12:]) == pytest.approx(0.2)
    loaded = load_supernet(tmp_path)
    assert (loaded.step, loaded.total_steps) == (24, 24)
    assert not differences(copy_state(loaded.supernet), copy_state(supernet))


def test_the_teacher_is_the_largest_network_after_the_first_phase(tmp_path: Path) -> None:
    run(tmp_path / "all")
    alone = run(tmp_path / "alone", phases={"full": TOY_PHASES["full"]})
    teacher = load_subnet(tmp_path / "all" / "teacher.pt")
    assert teacher.arch == SPACE.largest
    assert not differences(copy_state(teacher.module()), measured_state(alone, SPACE.largest))
    assert not (tmp_path / "alone" / "teacher.pt").exists()


def test_a_run_in_its_second_phase_offers_what_is_trained(tmp_path: Path) -> None:
    first_two = {name: TOY_PHASES[name] for name in ("full", "depth")}
    run(tmp_path, phases=first_two)
    space = load_supernet(tmp_path).supernet.space
    assert options_of(space, "width") == (8,)
    assert options_of(space, "depth") == (1, 2)
    rng = random.Random(0)
    supernet = load_supernet(tmp_path).supernet.eval()
    for _ in range(5):
        supernet(torch.zeros(1, 3, 8, 8), space.sample(rng))
    with pytest.raises(ValueError, match=r"'width' cannot be 4; its options are \[8\]"):
        supernet(torch.zeros(1, 3, 8, 8), SPACE.smallest)


def test_distilling_without_a_trained_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the first phase has distill=true, but .* init="):
        run(tmp_path, phases={name: TOY_PHASES[name] for name in ("depth", "width")})


# Starting from other weights -----------------------------------------------------------------------------------------


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    first = run(tmp_path / "first", phases={"full": TOY_PHASES["full"]})
    for source in (tmp_path / "first", next((tmp_path / "first" / "checkpoints").glob("*.pt"))):
        fresh = Supernet(SPACE)
        load_weights(fresh, source)
        assert not differences(copy_state(fresh), copy_state(first))
    frozen = make_settings(epochs=1, lr=0.0, weight_decay=0.0)
    folder = tmp_path / "second"
    training = SupernetTraining(frozen, calibration_images=64, init=tmp_path / "first")
    second = plain(train_supernet(SPACE, DATA, training, folder))
    assert all(torch.equal(one, two) for one, two in zip(second.parameters(), first.parameters(), strict=True))
    later = {name: TOY_PHASES[name] for name in ("depth", "width")}
    settings = make_settings(epochs=3)
    training = SupernetTraining(settings, UniformSampler, 64, later, init=tmp_path / "first")
    train_supernet(SPACE, DATA, training, tmp_path / "third")
    teacher = load_subnet(tmp_path / "third" / "teacher.pt")
    assert not differences(copy_state(teacher.module()), measured_state(first, SPACE.largest))


def test_the_classifier_can_start_afresh(tmp_path: Path) -> None:
    first = run(tmp_path, phases={"full": TOY_PHASES["full"]})
    other = Supernet(ToySpace(num_classes=7, resolutions=(6, 8)))
    before = copy_state(other)
    load_weights(other, tmp_path, new_classifier=True)
    for name, tensor in other.state_dict().items():
        expected = before[name] if name.startswith("bank.classifier.") else first.state_dict()[name]
        assert torch.equal(tensor, expected)
    with pytest.raises(CheckpointError, match="does not fit the space"):
        load_weights(other, tmp_path)


def test_weights_of_another_space_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "first", phases={"full": TOY_PHASES["full"]})
    with pytest.raises(CheckpointError, match="does not fit the space"):
        load_weights(Supernet(ToySpace(num_classes=7)), tmp_path / "first")
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        load_weights(Supernet(SPACE), tmp_path / "nowhere")
