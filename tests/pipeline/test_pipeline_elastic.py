"""The job on a network that somebody already has: from its weights to a supernet, subnets and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from pipeline_runs import make_settings, search
from toy_spaces import ToySpace, make_data

from oneshot.data import Augmentation
from oneshot.evaluation import Evaluator, RepairSettings
from oneshot.pipeline.folders import Subnet, load_subnet, load_supernet, save_subnet
from oneshot.pipeline.retrain import SubnetTraining, retrain_subnet
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.spaces import TimmSpace

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


def test_a_family_without_training_is_searched_with_repaired_weights(tmp_path: Path) -> None:
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
    assert "repaired in closed form" in (tmp_path / "search" / "report.html").read_text()
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

    search(tmp_path / "run", tmp_path / "recalibrated", data=data, repair=False)
    assert "repair_images" not in load_subnet(tmp_path / "recalibrated").card


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
