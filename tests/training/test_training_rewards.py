"""Rewards of paths in training, and a sampler that learns from them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from toy_spaces import ToySpace, make_data
from training_runs import RecordedImages, make_settings, records

from oneshot.arch import Arch
from oneshot.data import ImageData, TensorImages
from oneshot.policies import PolicySettings
from oneshot.samplers import ControllerSampler, Sampler
from oneshot.supernet import Supernet
from oneshot.training import HeldOutReward, RunPart, SupernetTask, Trainer
from oneshot.training.metrics import Metrics


def make_trainer(folder: Path, data: ImageData, sampler: Sampler, **settings: object) -> Trainer:
    supernet = Supernet(sampler.space)
    task = SupernetTask(supernet, sampler, reward=HeldOutReward(data, 16, seed=3))
    return Trainer(task, data, make_settings(**settings), RunPart(folder, {"config": {}}), lambda module: {})


class Asking(Sampler):
    """Draws the smallest, and keeps the rewards of what it asks for."""

    def __init__(self, archs: Sequence[Arch]) -> None:
        super().__init__(ToySpace())
        self.archs, self.rewards = archs, []

    def sample(self, step: int) -> list[Arch]:
        return [self.space.smallest]

    def learn(self, step, reward):  # type: ignore[no-untyped-def]
        self.rewards.append((step, reward(self.archs), reward(self.archs)))
        return {"policy_reward/mean": 0.5}


def test_a_reward_is_accuracy_on_a_held_out_minibatch_with_its_statistics(tmp_path: Path) -> None:
    data, space = make_data(), ToySpace(dropout=0.5)
    seen = RecordedImages(data.held_out)
    data = ImageData(**{**vars(data), "held_out": seen})
    trainer = make_trainer(tmp_path, data, Asking([space.largest]))
    supernet = trainer.task.module
    assert isinstance(supernet, Supernet)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    reward = HeldOutReward(data, 10, seed=3)
    archs = [space.largest, space.smallest]
    found = reward(supernet, archs, trainer, "key")
    assert reward(supernet, archs, trainer, "key") == found
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    for arch, indices, value in zip(archs, seen.asked, found, strict=False):
        assert len(set(indices.tolist())) == 10
        module = supernet.extract(arch).train()
        for layer in module.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.eval()
        logits = module(trainer.prepare(seen.images[indices], 8))
        assert value == pytest.approx((logits.argmax(1) == seen.labels[indices]).float().mean().item())
    assert not torch.equal(seen.asked[0], seen.asked[1])
    reward(supernet, archs, trainer, "another key")
    assert not torch.equal(seen.asked[0], seen.asked[-2])


def test_a_sampler_learns_once_after_every_epoch(tmp_path: Path) -> None:
    sampler = Asking([ToySpace().largest] * 3)
    make_trainer(tmp_path, make_data(), sampler, epochs=3).run()
    assert [step for step, *_ in sampler.rewards] == [6, 12, 18]
    first, second = sampler.rewards[0][1:]
    assert len(first) == len(second) == 3
    assert len(set(first + second)) > 1  # a minibatch each
    assert [record["step"] for record in records(tmp_path) if "policy_reward/mean" in record] == [6, 12, 18]


def test_a_trained_policy_is_on_the_page(tmp_path: Path) -> None:
    sampler = ControllerSampler(ToySpace(), num_updates=2, num_rewarded=3, policy=PolicySettings(8))
    make_trainer(tmp_path, make_data(), sampler).run()
    lines = [record["policy"] for record in records(tmp_path) if "policy" in record]
    assert len(lines) == 2
    assert lines[-1]["depth"].keys() == {"1", "2"}
    assert sum(lines[-1]["op"].values()) == pytest.approx(1.0, abs=1e-5)
    page = (tmp_path / "training.html").read_text()
    assert "entropy of the policy" in page
    assert "kernel" in page


def test_the_record_of_a_policy_reads_back(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    assert metrics.policy() is None
    metrics.write_policy(4, {"depth": {1: 0.25, 2: 0.75}, "kernel": {3: math.nan}})
    metrics.write(5, {"loss/train": 1.0})
    metrics.write_policy(8, {"depth": {1: 0.5, 2: 0.5}, "kernel": {3: 1.0}})
    metrics.stop()
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["policy"]["kernel"] == {"3": None}
    again = Metrics(tmp_path, 8)
    history = again.policy()
    again.stop()
    assert history is not None
    assert history.steps == [4, 8]
    assert history.probabilities["depth"] == {"1": [0.25, 0.5], "2": [0.75, 0.5]}
    assert math.isnan(history.probabilities["kernel"]["3"][0])
    shorter = Metrics(tmp_path, 5)
    history = shorter.policy()
    shorter.stop()
    assert history is not None
    assert history.steps == [4]


def test_a_minibatch_is_never_larger_than_the_set() -> None:
    data = make_data()
    assert isinstance(data.held_out, TensorImages)
    assert HeldOutReward(data, 10**6, 0).batch_size == len(data.held_out)
