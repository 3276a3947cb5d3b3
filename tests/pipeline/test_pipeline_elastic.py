"""The job on a network that somebody already has: from its weights to a supernet, subnets and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from pipeline_runs import make_settings
from toy_spaces import make_data

from oneshot.data import Augmentation
from oneshot.pipeline.folders import Subnet, load_subnet, load_supernet, save_subnet
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
