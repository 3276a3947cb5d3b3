"""Spaces whose choices can be mixed."""

from __future__ import annotations

import copy
import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from space_examples import SPACES
from timm.layers import DropPath
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces import Make, SearchSpace
from oneshot.supernet import Supernet

ROOT = Path(__file__).parent.parent


def my_cell() -> SearchSpace:
    spec = importlib.util.spec_from_file_location("my_cell_under_test", ROOT / "examples" / "my_cell.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space: SearchSpace = module.MyCell(num_classes=4, resolution=12, channels=4, num_cells=2)
    return space


class Zeros(SearchSpace):
    """A choice between nothing and a convolution that changes size and channels, and one of dropped paths."""

    num_classes, resolution = 5, 8

    def __init__(self) -> None:
        self.choices = (Choice("op", ("none", "conv", "pool")), Choice("dropped", (False, True)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        def option(name: str) -> nn.Module | None:
            if name == "none":
                return None
            conv = make(
                f"op.{name}", nn.Conv2d, 3, 4, 3 if name == "conv" else 1, stride=2, padding=int(name == "conv")
            )
            return nn.Sequential(nn.ReLU(), conv)

        op = make.choose("op", option)
        dropped = make.choose("dropped", lambda dropped: DropPath(0.5) if dropped else nn.Identity())
        stem = op if op is not None else nn.Sequential(nn.AvgPool2d(2), _Widened())
        return nn.Sequential(stem, dropped, nn.Flatten(), make("head", nn.Linear, 64, self.num_classes))


class _Widened(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 4, *x.shape[2:])


SMALL: dict[str, list[Option]] = {
    "resolution": [32],
    "stage[345].depth": [2],
    "stage[345].*.kernel": [3],
    "stage[345].*.expand": [3],
}
# The part of each space whose choices can be mixed; all others say which choice cannot.
MIXED: dict[str, Callable[[], SearchSpace]] = {
    **{name: SPACES[name] for name in ("nasbench201", "darts", "nasbench_macro", "enas_macro", "enas_micro")},
    "spos": lambda: SPACES["spos"]().restrict({"stage[34].*": ["shuffle3"]}),
    "ofa": lambda: SPACES["ofa"]().restrict(SMALL),
    "ofa_proxyless": lambda: SPACES["ofa_proxyless"]().restrict({**SMALL, "stage[345].depth": [1]}),
    "my_cell": my_cell,
}


@functools.cache
def _made(name: str) -> tuple[SearchSpace, Supernet, dict[str, Tensor]]:
    space = MIXED[name]()
    torch.manual_seed(0)
    supernet = Supernet(space.whole())
    for tensor in supernet.parameters():  # so that no space's outputs are as small as its initial weights make them
        tensor.data.add_(0.05 * torch.randn_like(tensor))
    return space, supernet, copy.deepcopy(supernet.state_dict())


def made(name: str, training: bool = False) -> tuple[SearchSpace, Supernet]:
    """A space and a supernet with always the same weights; skeletons are made once."""
    space, supernet, state = _made(name)
    supernet.float().load_state_dict(state)
    supernet.zero_grad()
    supernet.space = space
    return space, supernet.train(training)


def grads(supernet: Supernet) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in supernet.named_parameters()}


def same(left: Mapping[str, Tensor | None], right: Mapping[str, Tensor | None]) -> bool:
    return all(
        (left[name] is None) == (right[name] is None) and (left[name] is None or torch.equal(left[name], right[name]))  # type: ignore[arg-type]
        for name in left
    )


def random_mix(space: SearchSpace, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        choice.name: torch.randn(len(choice.options), generator=generator, dtype=dtype).softmax(0).requires_grad_()
        for choice in space.choices
    }
