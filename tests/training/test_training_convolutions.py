"""Strided 1x1 convolutions of few channels: oneDNN's weight gradient of them crashes the process in channels_last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timm.layers import CondConv2d, ConvNormAct, StdConv2d
from torch import nn
from torch.nn.functional import conv2d

from oneshot.convolutions import SafeConvolutions, convolving, may_crash

# 112 pixels: there the process is sure to die where the layer runs as torch would run it.
_TRAINS = """
import sys
from pathlib import Path
import torch
from torch import nn
sys.path.insert(0, sys.argv[1])
from pipeline_runs import make_settings
from toy_spaces import ConvNorm, make_data
from oneshot.arch import Choice
from oneshot.pipeline.folders import Subnet
from oneshot.pipeline.retrain import SubnetTraining, retrain_subnet
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import FairSampler
from oneshot.spaces.base import SearchSpace

torch.set_num_threads(1)

class Channels(nn.Module):
    # images that lie in memory as channels_last whatever the setting, as behind a layer norm of channels
    def forward(self, x):
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

class Own(nn.Module):
    # a convolution that no module's attributes tell of
    def __init__(self, inputs, outputs):
        super().__init__()
        self.matrix = nn.Linear(inputs, outputs)
    def forward(self, x):
        weight = self.matrix.weight[:, :, None, None]
        if channels_last:
            weight = weight.contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(x, weight, stride=2)

class Narrow(SearchSpace):
    num_classes, resolution = 4, 112
    choices = (Choice("width", (8, 15)),)
    def build(self, arch, make):
        return nn.Sequential(
            make("stem", ConvNorm, 3, arch["width"], 1, stride=2) if channels_last else Channels(),
            *([make("first", ConvNorm, 3, arch["width"], 1, stride=(1, 2))] if not channels_last else []),
            make("second", ConvNorm, arch["width"], 8, 1, stride=2) if channels_last else make("own", Own, arch["width"], 8),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), make("classifier", nn.Linear, 8, 4),
        )

for channels_last in (True, False):
    space, data, folder = Narrow(), make_data(16, 8, 8, size=112), Path(sys.argv[2]) / str(channels_last)
    settings = make_settings(epochs=1, batch_size=16, channels_last=channels_last)
    training = SupernetTraining(settings, FairSampler, calibration_images=8)
    supernet = train_supernet(space, data, training, folder / "supernet").supernet
    arch = space.smallest
    subnet = Subnet(space, arch, supernet.extract(arch).state_dict(), {}, {"macs": 0})
    retrain_subnet(subnet, data, SubnetTraining(settings), folder / "retrained")
    print(f"trained with {channels_last=}")
"""


def test_no_network_crashes_the_process(tmp_path: Path) -> None:
    """Neither as images are prepared, nor where the network lays them out itself; one process trains both."""
    tests = Path(__file__).parents[1]
    arguments = [str(tests / "training"), str(tmp_path)]
    script = _TRAINS.replace(
        "sys.path.insert(0, sys.argv[1])",
        f"sys.path[:0] = [sys.argv[1], {str(tests / 'pipeline')!r}, {str(tests.parent)!r}]",
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert finished.returncode == 0, f"{finished.returncode}: {finished.stderr[-2000:]}"
    assert finished.stdout.endswith("trained with channels_last=False\n")


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (15, 17), (7, 8)])
@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_result_and_its_gradients_are_those_of_the_strided_convolution(
    rows: int, columns: int, stride: int | tuple[int, int], layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 7, rows, columns, generator=generator).contiguous(memory_format=layout)
    weight, bias = torch.randn(9, 7, 1, 1, generator=generator), torch.randn(9, generator=generator)
    given = [tensor.requires_grad_() for tensor in (images, weight, bias)]
    wide = [tensor.detach().double().requires_grad_() for tensor in given]
    with SafeConvolutions():
        found = conv2d(*given, stride=stride)
    with torch.no_grad():
        torch.testing.assert_close(found, conv2d(*given, stride=stride))
    assert found.is_contiguous(memory_format=layout)
    expected = conv2d(*wide, stride)
    factors = torch.randn(found.shape, generator=generator)
    found.backward(factors)
    expected.backward(factors.double())
    for one, other in zip(given, wide, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "kernel", "options"),
    [
        (7, 3, {"stride": 2}),
        (16, 1, {"stride": 2}),
        (7, 1, {"stride": 1}),
        (7, 1, {"stride": 2, "padding": 1}),
        (7, 1, {"stride": 1, "padding": "same"}),
        (7, (1, 2), {"stride": 2, "padding": "valid"}),
    ],
)
def test_other_convolutions_run_as_they_are(channels: int, kernel: int, options: dict[str, object]) -> None:
    size = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    images, weight = torch.randn(2, channels, 9, 9), torch.randn(4, channels, *size)
    expected = conv2d(images, weight, **options)
    with SafeConvolutions():
        assert torch.equal(conv2d(images, weight, **options), expected)


class _Foreign(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _with_hook() -> nn.Module:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, inputs, output: output)
    return layer


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Conv2d(15, 8, 1, stride=2), True),
        (nn.Conv2d(15, 8, 1, stride=(1, 2)), True),
        (nn.Conv2d(32, 8, 1, stride=2, groups=4), True),
        (ConvNormAct(8, 8, 1, stride=2), True),
        (StdConv2d(8, 8, 1, stride=2), True),
        (CondConv2d(8, 8, 1, stride=2), True),
        (_Foreign(), True),
        (_with_hook(), True),
        (nn.Conv2d(16, 8, 1, stride=2), False),
        (nn.Conv2d(8, 8, 1), False),
        (nn.Conv2d(8, 8, 3, stride=2), False),
        (nn.Sequential(ConvNormAct(8, 8, 3, stride=2), nn.MaxPool2d(1, 2), nn.Flatten(), nn.Linear(8, 8)), False),
    ],
)
def test_only_networks_that_may_crash_pay_for_it(network: nn.Module, expected: bool) -> None:
    assert may_crash(nn.Sequential(nn.Identity(), network)) is expected
    assert isinstance(convolving(may_crash(network), torch.zeros(1)), SafeConvolutions) is expected
