"""The job on a network that somebody already has: from its weights to a supernet, subnets and back."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pipeline_runs import make_settings, read_rows, search, train
from toy_spaces import ToySpace, make_data

from oneshot.arch import Arch
from oneshot.batch_norm import with_batch_statistics
from oneshot.costs import CostTable
from oneshot.data import Augmentation, ImageData, SplitRecord
from oneshot.evaluation import Evaluator, RepairSettings
from oneshot.pipeline.folders import Subnet, load_subnet, load_supernet, save_subnet
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import SandwichSampler
from oneshot.search import Knapsack
from oneshot.spaces import TimmSpace
from oneshot.supernet import Supernet
from oneshot.training import Distillation, PhaseSettings

MODEL = "test_resnet"


def test_training_starts_from_the_weights_sorted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_data(augmentation=Augmentation())
    torch.manual_seed(0)
    original = timm.create_model(MODEL, num_classes=4).eval()
    weights = tmp_path / "weights.pt"
    torch.save(original.state_dict(), weights)
    space = TimmSpace(MODEL, 4, 32, str(weights), input_ratios=(1.0,))
    settings = make_settings(epochs=1, lr=1e-12, weight_decay=0.0)
    with caplog.at_level("INFO"):
        training = SupernetTraining(settings, calibration_images=32, config={"seed": 0})
        train_supernet(space, data, training, tmp_path / "run")
    assert f"channels of {len(space.channel_orders)} layers sorted by importance on" in caplog.text
    weights.unlink()  # what follows does not need it

    trained = load_supernet(tmp_path / "run").supernet
    bank = trained.state_dict()
    for name, tensor in original.named_parameters():
        kept = bank[f"bank.{name}"]
        torch.testing.assert_close(kept.flatten().sort().values, tensor.flatten().sort().values, rtol=0, atol=1e-6)
    moved = [name for name, tensor in original.named_parameters() if not torch.allclose(bank[f"bank.{name}"], tensor)]
    assert moved
    assert all(any(name.startswith(f"{order.blocks}.") for order in space.channel_orders) for name in moved)

    arch = trained.space.smallest
    subnet = trained.extract(arch).eval()
    save_subnet(tmp_path / "subnet.pt", Subnet(trained.space, arch, subnet.state_dict(), {}, {}))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_subnet(tmp_path / "subnet.pt").module()(x), subnet(x))


def test_it_is_fine_tuned_whole_then_sorted_and_teaches_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(augmentation=Augmentation())
    torch.manual_seed(0)
    torch.save(timm.create_model(MODEL, num_classes=4).state_dict(), tmp_path / "weights.pt")
    space = TimmSpace(MODEL, 4, 32, str(tmp_path / "weights.pt"))
    seen: list[Arch] = []
    plain = Supernet.forward

    def forward(self: Supernet, x: torch.Tensor, arch: Arch, *how: Any) -> torch.Tensor:
        if self.training:
            seen.append(arch)
        return plain(self, x, arch, *how)

    monkeypatch.setattr(Supernet, "forward", forward)
    phases = {
        "whole": PhaseSettings(1, largest={"*": 1}),
        "sizes": PhaseSettings(1, lr=1e-12, largest={"*.*": 1}, distill=True, sort_channels=True, untrained=True),
    }
    settings = make_settings(epochs=2, lr=0.01, weight_decay=0.0)
    training = SupernetTraining(
        settings,
        functools.partial(SandwichSampler, num_random=0),
        calibration_images=32,
        phases=phases,
        distillation=Distillation(full_resolution=True),
        config={"seed": 0},
    )
    with caplog.at_level("INFO"):
        train_supernet(space, data, training, tmp_path / "run")
    steps = len(data.train) // settings.batch_size
    small = space.arch({**space.largest, "resolution": 16})
    assert seen == [space.largest] * steps + [space.largest, small] * steps  # whatever the sampler, once a step
    lines = [record.getMessage() for record in caplog.records]
    sorted_at = [number for number, line in enumerate(lines) if "layers sorted by importance on" in line]
    assert len(sorted_at) == 1
    assert any(line.startswith("whole epoch 1 of 1") for line in lines[: sorted_at[0]])

    # The fine-tuned network teaches at its own size, and the sorted one computes what it does.
    teacher = load_subnet(tmp_path / "run", names=("teacher.pt",))
    assert teacher.space.input_shape(teacher.arch)[-1] == 32
    found = load_supernet(tmp_path / "run")
    assert found.untrained
    assert found.repair(8) == RepairSettings(8, measure_statistics=True)
    trained = found.supernet
    assert trained.space.choices == space.choices  # which a search repairs
    largest = trained.extract(trained.space.largest)
    fine_tuned = teacher.module()
    x = torch.randn(16, 3, 32, 32)
    with torch.no_grad():
        expected, logits = with_batch_statistics(fine_tuned)(x), with_batch_statistics(largest)(x)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    assert not torch.equal(
        largest.state_dict()["layer1.0.conv1.weight"], fine_tuned.state_dict()["layer1.0.conv1.weight"]
    )

    # It teaches what was found in the supernet, too, unless that is not wanted.
    own = Subnet(trained.space, trained.space.largest, largest.state_dict(), {}, {})
    for number, distill in enumerate((None, False)):
        caplog.clear()
        with caplog.at_level("INFO"):
            retraining = SubnetTraining(make_settings(epochs=1), RetrainSettings(distill=distill), found)
            retrain_subnet(own, data, retraining, tmp_path / f"retrain{number}")
        assert ("learning from the network that taught the supernet" in caplog.text) == (distill is None)


def test_a_family_without_training_is_searched_with_repaired_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(augmentation=Augmentation(), num_held_out=32)
    torch.manual_seed(0)
    torch.save(timm.create_model(MODEL, num_classes=4).state_dict(), tmp_path / "weights.pt")
    space = TimmSpace(MODEL, 4, 32, str(tmp_path / "weights.pt"), input_ratios=(1.0,))
    training = SupernetTraining(make_settings(epochs=0), config={"seed": 0})
    made = train_supernet(space, data, training, tmp_path / "run")
    trained = load_supernet(tmp_path / "run")
    assert trained.fingerprint == made.fingerprint
    assert (trained.step, trained.total_steps) == (0, 0)
    assert train_supernet(space, data, training, tmp_path / "run").fingerprint == made.fingerprint

    found = search(tmp_path / "run", tmp_path / "search", data=data, repair_images=64)
    subnet = load_subnet(tmp_path / "search")
    assert subnet.card["repair_images"] == 64
    page = (tmp_path / "search" / "report.html").read_text()
    assert "repaired in closed form" in page
    assert f"<title>{MODEL} on toys</title>" in page
    arch = found.outcomes[0].best
    assert arch != space.largest
    evaluator = Evaluator(trained.supernet, data, device=torch.device("cpu"), repair=RepairSettings(64))
    expected, cut = evaluator.subnet(arch).state_dict(), trained.supernet.extract(arch).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in subnet.weights.items())
    assert any(not torch.equal(tensor, cut[name]) for name, tensor in subnet.weights.items())
    assert evaluator(arch).accuracy == subnet.card["held_out_accuracy"]

    still = SubnetTraining(make_settings(epochs=1, lr=0.0, weight_decay=0.0), supernet=trained)
    again = retrain_subnet(subnet, data, still, tmp_path / "retrained").subnet.weights
    assert all(torch.equal(tensor, again[name]) for name, tensor in expected.items() if name.endswith("weight"))
    with pytest.raises(ValueError, match=r"trainer\.epochs of at least 1, not 0"):
        retrain_subnet(subnet, data, SubnetTraining(make_settings(epochs=0)), tmp_path / "none")

    with caplog.at_level("INFO"):
        search(tmp_path / "run", tmp_path / "few", data=data, repair_images=4)
    assert caplog.text.count("layers that are repaired are left as they are") == 1
    assert caplog.text.count("evaluation.repair_images gives more") == 1
    page = (tmp_path / "few" / "report.html").read_text()
    assert re.search(r"4, too few for \d+ of the \d+ layers that are repaired", page)
    caplog.clear()
    search(tmp_path / "run", tmp_path / "all", data=data, repair_images=10_000)
    assert "gives more" not in caplog.text
    assert load_subnet(tmp_path / "all").card["repair_images"] == len(data.train) < 10_000
    search(tmp_path / "run", tmp_path / "recalibrated", data=data, repair=False)
    assert "repair_images" not in load_subnet(tmp_path / "recalibrated").card


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Arch]:
    """Those whose blocks were measured since it was last cleared."""
    found: list[Arch] = []
    measure = Evaluator.block_errors

    def block_errors(self: Evaluator, archs: list[Arch]) -> Iterator[tuple[Arch, float]]:
        for pair in measure(self, archs):
            found.append(pair[0])
            yield pair

    monkeypatch.setattr(Evaluator, "block_errors", block_errors)
    return found


def test_errors_of_blocks_are_measured_once_for_all_limits(
    tmp_path: Path, measured: list[Arch], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    weights = timm.create_model(MODEL, num_classes=4, zero_init_last=False).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    space = TimmSpace(MODEL, 4, 32, str(tmp_path / "weights.pt"), input_ratios=(1.0,), width_ratios=(0.5, 1.0))
    plain = make_data(augmentation=Augmentation(), num_held_out=32)
    names = ("train", "held_out", "test", "unused")
    numbers = {name: torch.arange(4) + 4 * place for place, name in enumerate(names)}
    labels = {name: torch.arange(4) for name in names}
    record = SplitRecord("toys", plain.classes, numbers, labels, numbers["train"][:0], plain.mean, plain.std, 1.0, None)
    data, others = (
        replace(plain, record=record),
        replace(plain, record=replace(record, images=numbers | {"test": numbers["train"] + 99})),
    )
    train_supernet(space, data, SupernetTraining(make_settings(epochs=0), config={"seed": 0}), tmp_path / "run")

    def run(name: str, share: float, data: ImageData, **changes: Any) -> dict[str, str]:
        measured.clear()
        cost = {"max_macs": share * CostTable(space).original().macs}
        search(
            tmp_path / "run",
            tmp_path / name,
            Knapsack(num_samples=2),
            data=data,
            cost=cost,
            **{"repair_images": 64} | changes,
        )
        return {row["arch"]: row["block_errors"] for row in read_rows(tmp_path / name)}

    first = run("first", 0.7, data)
    options = len(measured)
    assert options
    (kept,) = (tmp_path / "run").glob("block_errors-*.json")
    with caplog.at_level("INFO"):
        second = run("second", 0.8, data)
    assert not measured
    assert f"is known from an earlier search: {kept}" in caplog.text
    assert any(arch in second for arch in first)
    assert all(second[arch] == error for arch, error in first.items() if arch in second)
    for number, (given, changes) in enumerate(
        [(others, {}), (data, {"repair_images": 32}), (data, {"seed": 1}), (plain, {})]
    ):
        run(f"other{number}", 0.7, given, **changes)
        assert len(measured) == options
    assert len(list((tmp_path / "run").glob("block_errors-*.json"))) == 4  # without a record nobody knows the images

    kept.write_text("[1")
    assert run("anew", 0.7, data) == first
    assert len(measured) == options
    assert f"{kept} cannot be read" in caplog.text
    errors = json.loads(kept.read_text())
    assert len(errors) == options

    lost = next(iter(errors))
    kept.write_text(
        json.dumps({arch: error for arch, error in errors.items() if arch != lost} | {"of another part": 0.5})
    )
    assert run("in part", 0.7, data) == first
    assert [arch.to_json() for arch in measured] == [lost]
    assert json.loads(kept.read_text()) == errors | {"of another part": 0.5}


def test_blocks_are_measured_once_and_tell_a_search_what_widths_cost(tmp_path: Path, measured: list[Arch]) -> None:
    data = make_data(augmentation=Augmentation(), num_held_out=32)
    torch.manual_seed(0)
    weights = timm.create_model(MODEL, num_classes=4, zero_init_last=False).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    space = TimmSpace(MODEL, 4, 32, str(tmp_path / "weights.pt"), input_ratios=(0.5, 1.0), width_ratios=(0.5, 1.0))
    train_supernet(space, data, SupernetTraining(make_settings(epochs=0), config={"seed": 0}), tmp_path / "run")
    limit = 0.6 * CostTable(space).original().macs
    given = {"data": data, "repair_images": 64, "cost": {"max_macs": limit}}
    found = search(tmp_path / "run", tmp_path / "search", Knapsack(num_samples=3), **given)
    options = sum(len(choice.options) - 1 for choice in space.choices if choice.name != "resolution")
    assert len(measured) == 2 * options == len(set(measured))
    rows = [row for row in read_rows(tmp_path / "search") if row["source"] in ("search", "random")]
    assert all(float(row["macs"]) <= limit for row in rows)
    sums = {row["arch"]: float(row["block_errors"]) for row in rows}
    for row in rows[:2]:  # the best of both sizes: no network of their size that was scored loses less
        size = json.loads(row["arch"])["resolution"]
        assert sums[row["arch"]] == min(sums[arch] for arch in sums if json.loads(arch)["resolution"] == size)
    assert min(error for arch, error in sums.items() if json.loads(arch)["resolution"] == 32) > 0

    measured.clear()
    again = search(tmp_path / "run", tmp_path / "search", Knapsack(num_samples=4), **given)
    assert not measured
    assert again.outcomes[0].archs[:2] == found.outcomes[0].archs[:2]
    with pytest.raises(ValueError, match=r"errors of repaired blocks: set evaluation\.repair=true"):
        search(tmp_path / "run", tmp_path / "none", Knapsack(), repair=False, **given)
    with pytest.raises(ValueError, match=r"search\.num_samples=1 is fewer than the 2 input sizes"):
        search(tmp_path / "run", tmp_path / "none", Knapsack(num_samples=1), **given)
    assert not measured
    train(tmp_path / "toys", epochs=1)
    with pytest.raises(ValueError, match="ToySpace was made of none: choose another search"):
        search(tmp_path / "toys", tmp_path / "none", Knapsack())
    assert not (tmp_path / "none").exists()


def test_without_training_the_weights_are_trained_ones(tmp_path: Path) -> None:
    data = make_data()
    torch.save(timm.create_model(MODEL, num_classes=7).state_dict(), tmp_path / "weights.pt")
    training = SupernetTraining(make_settings(epochs=0))
    other = TimmSpace(MODEL, 4, 32, str(tmp_path / "weights.pt"), input_ratios=(1.0,))
    with pytest.raises(ValueError, match="of other classes than the 4 of toys"):
        train_supernet(other, data, training, tmp_path / "run")
    with pytest.raises(ValueError, match="the weights of ToySpace are random"):
        train_supernet(ToySpace(), data, training, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fine_tuning_with_stored_statistics_keeps_them(tmp_path: Path) -> None:
    data = make_data(augmentation=Augmentation())
    torch.manual_seed(0)
    torch.save(timm.create_model(MODEL, num_classes=4).state_dict(), tmp_path / "weights.pt")
    space = TimmSpace(MODEL, 4, 32, str(tmp_path / "weights.pt"), input_ratios=(1.0,))
    phases = {
        "whole": PhaseSettings(1, largest={"*": 1}, stored_statistics=True),
        "more": PhaseSettings(1, lr=1e-12, largest={"*": 1}, distill=True, untrained=True),
    }
    training = SupernetTraining(
        make_settings(epochs=2, lr=0.01, weight_decay=0.0), calibration_images=32, phases=phases
    )
    train_supernet(space, data, training, tmp_path / "run")
    before = torch.load(tmp_path / "weights.pt")
    teacher = load_subnet(tmp_path / "run", names=("teacher.pt",)).weights
    kept = [name for name in before if "running" in name]
    assert kept
    assert all(torch.equal(teacher[name], before[name]) for name in kept)
    assert not torch.equal(teacher["layer1.0.conv1.weight"], before["layer1.0.conv1.weight"])
    after = load_supernet(tmp_path / "run").supernet.bank.state_dict()
    assert not torch.equal(after[kept[0]], before[kept[0]])

    # What comes of it is scored, repaired and trained on with the same statistics.
    alone = replace(training, phases={"whole": replace(phases["whole"], untrained=True)})
    train_supernet(space, data, alone, tmp_path / "alone")
    found = load_supernet(tmp_path / "alone")
    assert found.repair(8) == RepairSettings(8, measure_statistics=False)
    search(tmp_path / "alone", tmp_path / "search", data=data, repair=False)
    subnet = load_subnet(tmp_path / "search")
    inherited = found.supernet.extract(subnet.arch).state_dict()
    assert all(torch.equal(tensor, inherited[name]) for name, tensor in subnet.weights.items())
    assert "the BatchNorm statistics that they were trained with" in (tmp_path / "search" / "report.html").read_text()
    again = SubnetTraining(make_settings(epochs=1, average_epochs=1), supernet=found)
    retrained = retrain_subnet(subnet, data, again, tmp_path / "retrained").subnet.weights
    changed = {name for name, tensor in retrained.items() if not torch.equal(tensor, inherited[name])}
    assert changed
    assert not any("running" in name for name in changed)
