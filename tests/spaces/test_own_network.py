"""Networks of a user's own as a space."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from space_examples import images, some_archs

from oneshot.costs import CostTable
from oneshot.spaces import NetworkSpace, TimmSpace
from oneshot.supernet import Supernet

OWN_FILE = '''
from os import getcwd

from torch import nn


class Plain(nn.Module):
    """A network without containers or blocks."""

    def __init__(self, num_classes):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.second, self.last = nn.Conv2d(32, 16, 3, 2, 1), nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.second(self.norm(self.first(x)).relu()).relu()
        return self.last(x.mean((2, 3)))


def make(num_classes):
    return Plain(num_classes)


def rigid():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))


def text():
    return "a network"


class Auxiliary(Plain):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


def auxiliary(num_classes):
    return Auxiliary(num_classes)


def broken(num_classes):
    return {}["network"]
'''


def run_file(path: Path) -> ModuleType:
    """The file as a module, as a command runs it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def _own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "own_network.py"
    path.write_text(OWN_FILE)
    monkeypatch.setitem(sys.modules, "own_network", run_file(path))


@pytest.mark.usefixtures("_own_file")
@pytest.mark.parametrize("build", ["own_network.py:make", "torchvision:shufflenet_v2_x0_5"])
def test_a_network_of_ones_own(build: str) -> None:
    space = NetworkSpace(build, 5, 32)
    supernet = Supernet(space).eval()
    for arch in some_archs(space, 2):
        x = images(space, arch)
        assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))
    table, rng = CostTable(space), random.Random(0)
    assert table.cost(space.smallest).macs < table.cost(space.sample(rng)).macs <= table.original().macs


@pytest.mark.usefixtures("_own_file")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("own_network.py:rigid", "nothing in Sequential can be elastic"),
        ("own_network.py:mkae", "own_network.py has no function 'mkae'; did you mean 'make'"),
        ("own_network.py:text", "own_network.py:text gives a str, not a torch.nn.Module"),
        ("own_network.py:getcwd", "own_network.py has no function 'getcwd'"),
        (
            "own_network.py:auxiliary",
            "in training Auxiliary gives tuple, not logits alone: leave out what else there is",
        ),
        ("own_network.py:broken", "broken fails: own_network.py, line 43: KeyError: 'network'"),
        ("os.py:abort", "os.py has not been run"),
        ("torch.py:manual_seed", "torch.py has not been run"),
        ("missing_file.py:make", "missing_file.py has not been run: add code=missing_file.py"),
        ("torchvision:resnet19", "torchvision has no model 'resnet19'; did you mean 'resnet1"),
        ("resnet18", "build is FILE.py:FUNCTION, or torchvision:NAME, not 'resnet18'"),
    ],
)
def test_what_cannot_be_made_elastic(build: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSpace(build, 5, 16, input_ratios=(1.0,))


def test_where_settings_leave_no_choice_they_are_named() -> None:
    off = {"width_ratios": (1.0,), "depth_ratio": 1.0, "input_ratios": (1.0,)}
    with pytest.raises(
        ValueError,
        match=r"^width_ratios=\[1\.0\], depth_ratio=1 and input_ratios=\[1\.0\] leave nothing of VisionTransformer to choose",
    ):
        TimmSpace("test_vit", 5, 32, kernels=False, **off)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"depth_ratio=1, kernels=false and input_ratios=\[1\.0\] leave nothing of ConvNeXt"
    ):
        TimmSpace("test_convnext", 5, 32, kernels=False, **off)  # type: ignore[arg-type]
