"""Training for ranking: parts of a space, normalisation that is not learned, networks rather than encodings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_runs import DATA, SPACE, make_settings
from sampler_spaces import Decisions, Mirrored, Staged
from space_examples import CellSpace
from toy_spaces import ToySpace
from training_runs import copy_state, differences

from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import UniformSampler
from oneshot.supernet import Supernet
from oneshot.training import freeze_norms


def train(folder: Path, **changes: Any) -> Supernet:
    settings = make_settings(epochs=1)
    training = SupernetTraining(settings, calibration_images=64, **changes)
    supernet = train_supernet(ToySpace(**SPACE), DATA, training, folder).supernet
    assert isinstance(supernet, Supernet)
    return supernet


def test_a_part_of_the_space_is_trained_with_the_weights_of_the_whole(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    part = train(tmp_path / "part", init=tmp_path / "whole", options={"op": ["conv1"], "width": [8]})
    trained = load_supernet(tmp_path / "part")
    assert trained.supernet.space.size == whole.space.size // 4
    before, after = copy_state(whole), copy_state(part)
    assert before.keys() == after.keys()
    assert torch.equal(before["bank.op.conv3.conv.weight"], after["bank.op.conv3.conv.weight"])
    assert not torch.equal(before["bank.op.conv1.conv.weight"], after["bank.op.conv1.conv.weight"])
    with pytest.raises(ValueError, match="'ops' matches no choice"):
        train(tmp_path / "wrong", options={"ops": ["conv1"]})


def test_normalisation_that_is_not_learned_stays_as_it_was(tmp_path: Path) -> None:
    supernet = train(tmp_path, norm_affine=False)
    state = copy_state(supernet)
    norms = [name for name in state if ".norm.weight" in name]
    assert len(norms) == 4
    for name in norms:
        assert torch.equal(state[name], torch.ones_like(state[name]))
        bias = state[name.replace("weight", "bias")]
        assert torch.equal(bias, torch.zeros_like(bias))
        assert state[name.replace("weight", "running_mean")].abs().sum() > 0  # it normalises all the same
    assert not differences(copy_state(load_supernet(tmp_path).supernet), state)
    # A network that is retrained learns them again.
    arch = supernet.space.largest
    network = supernet.space.network(arch)
    network.load_state_dict(supernet.extract(arch).state_dict())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_initial_scales_of_zero_become_one() -> None:
    supernet = Supernet(ToySpace())
    with torch.no_grad():
        supernet.bank.stem.norm.weight.zero_()
    assert freeze_norms(supernet) == 8
    assert supernet.bank.stem.norm.weight.tolist() == [1.0] * 8


def test_every_network_is_equally_likely() -> None:
    """Of the nine encodings of ``Mirrored(3, 3)`` six are three networks; of ``Staged`` deep networks are many more."""
    for space in (Mirrored(3, 3), Staged()):
        draws = 6000
        counts = Counter(UniformSampler(space, seed=1, over="networks").sample(step)[0] for step in range(draws))
        expected = draws / space.size
        assert set(counts) == set(space.enumerate())
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < 3 * space.size
        by_option = Counter(UniformSampler(space, seed=1).sample(step)[0] for step in range(draws))
        assert sum((by_option[arch] - expected) ** 2 / expected for arch in counts) > 100


def test_a_space_too_large_to_list_is_refused() -> None:
    with pytest.raises(ValueError, match="lists at most 1,000,000 networks; this space has"):
        UniformSampler(Decisions(*[10] * 8), over="networks")
    with pytest.raises(ValueError, match="over is options or networks, not 'network'; did you mean 'networks'"):
        UniformSampler(Decisions(2), over="network")


def test_a_part_of_a_space_has_canonical_forms_of_its_own(tmp_path: Path) -> None:
    """Where an option is left out, another one stands for the cells that it stood for."""
    space = CellSpace(num_classes=DATA.num_classes, channels=4, resolution=8)
    options = {"edge01": ["skip", "conv1"], "edge12": ["pool", "conv3"], "*23": ["conv1", "conv3"]}
    part = space.restrict(options)
    assert any(space.arch(arch) != arch for arch in part.enumerate())
    settings = make_settings(epochs=2)
    train_supernet(space, DATA, SupernetTraining(settings, calibration_images=64, options=options), tmp_path)
    trained = load_supernet(tmp_path)
    assert trained.supernet.space.size == part.size
    for arch in list(part.enumerate())[:5]:
        trained.supernet.extract(arch)
