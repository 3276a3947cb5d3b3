"""Errors of single blocks, against those of the same blocks in whole subnets with repaired weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_spaces import make_data
from training_runs import CPU, copy_state, differences

from oneshot.evaluation import Evaluator, RepairSettings, ScoreSettings
from oneshot.spaces import NetworkSpace, TimmSpace
from oneshot.supernet import Supernet

# In each space: which option a choice takes, and where in the network what is lost shows first.
CASES = {
    "test_efficientnet": {("blocks.1.0.width", 0.5): "blocks.1.0", ("blocks.3.0.width", 0.5): "blocks.3.0"},
    "test_vit": {
        ("blocks.2.width", 0.5): "blocks.2",
        ("blocks.2.heads", 1): "blocks.2",
        ("blocks.depth", 5): "blocks.3",
    },
}


def outputs(network: nn.Module, path: str, images: Tensor) -> Tensor:
    found: list[Tensor] = []
    hook = network.get_submodule(path).register_forward_hook(lambda module, args, output: found.append(output.detach()))
    with torch.no_grad():
        network(images)
    hook.remove()
    return found[0].double()


@pytest.mark.parametrize(
    ("model", "measure_statistics"), [("test_efficientnet", False), ("test_efficientnet", True), ("test_vit", False)]
)
def test_they_are_what_the_block_of_a_subnet_gets_wrong(model: str, measure_statistics: bool) -> None:
    torch.manual_seed(0)
    removal = ["blocks.2", "blocks.5"] if model == "test_vit" else None
    space = TimmSpace(model, 4, 32, width_ratios=(0.5, 1.0), input_ratios=(1.0,), removal=removal)
    supernet = Supernet(space).eval()
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, tensor in supernet.state_dict().items():
        if tensor.is_floating_point() and tensor.dim() == 1 and not name.endswith("var"):
            tensor.add_(0.1 * torch.randn(tensor.shape))
    data = make_data(160, 12, 2, size=32)
    repair = RepairSettings(160, measure_statistics=measure_statistics)
    evaluator = Evaluator(supernet, data, ScoreSettings(batch_size=25), device=CPU, repair=repair)
    before = copy_state(supernet)
    smaller = {case: space.arch({**space.largest, case[0]: case[1]}) for case in CASES[model]}
    archs = [space.largest, *smaller.values()]
    if removal:
        archs.append(space.arch({**space.largest, "blocks.depth": 4}))
    assert {*archs} < {arch for part in space.alternatives(space.largest) for arch in part}
    errors = list(evaluator.block_errors(archs))
    found = dict(errors)
    assert found.keys() == {*archs[1:]}  # the largest itself has none
    assert len(errors) == len(found)
    assert not differences(supernet.state_dict(), before)
    images = torch.cat([batch for batch, _ in evaluator.fitted_on.at(32)])
    whole = evaluator.subnet(space.largest)
    for case, path in CASES[model].items():
        error = relative(outputs(evaluator.subnet(smaller[case]), path, images), outputs(whole, path, images))
        assert 1e-6 < error == pytest.approx(found[smaller[case]], rel=1e-3)
    if removal:  # after the last block nothing makes up for it
        lost = relative(outputs(whole, "blocks.4", images), outputs(whole, "blocks.5", images))
        assert found[archs[-1]] == pytest.approx(found[archs[-2]] + lost, rel=1e-3)


class Twice(nn.Module):
    """Calls one of its blocks twice, the second time behind another that may go."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 4)
        shared = Residual()
        self.blocks = nn.ModuleList([shared, Residual(), shared])
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(self.wide(x).relu())


def twice(num_classes: int) -> nn.Module:
    return Twice(num_classes)


def test_a_block_that_runs_twice_is_measured_both_times() -> None:
    space = NetworkSpace(f"{Path(__file__).name}:twice", 4, 32, width_ratios=(0.5, 1.0), input_ratios=(1.0,))
    torch.manual_seed(0)
    evaluator = Evaluator(
        Supernet(space).eval(), make_data(160, 12, 2, size=32), ScoreSettings(), device=CPU, repair=RepairSettings(64)
    )
    smaller = [arch for part in space.alternatives(space.largest) for arch in part if arch != space.largest]
    assert any("depth" in name for arch in smaller for name in arch if arch[name] != space.largest[name])
    found = dict(evaluator.block_errors(smaller))
    assert found.keys() == {*smaller}
    assert all(0 < error < 10 for error in found.values())


def relative(given: Tensor, expected: Tensor) -> float:
    return float((given - expected).square().sum() / expected.square().sum())


def test_weights_have_to_be_repaired() -> None:
    space = TimmSpace("test_resnet", 4, 32, input_ratios=(1.0,))
    evaluator = Evaluator(Supernet(space), make_data(16, 12, 2, size=32), device=CPU)
    with pytest.raises(ValueError, match=r"set evaluation\.repair=true"):
        next(evaluator.block_errors([space.smallest]))
