"""Which units of a network are active on which images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.training_free.score import NotApplicable

RECTIFIERS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.SiLU,
    nn.Mish,
    nn.GELU,
    nn.Hardswish,
    nn.Softplus,
)
_NAMES = ("GELUTanh", "HardMish", "HardSwish", "Mish", "PReLU", "QuickGELU", "Swish")  # timm's own


def is_rectifier(module: nn.Module) -> bool:
    """Whether a module is a pointwise activation that lets positive values pass and holds negative ones back: ReLU and its smooth
    kin. Gates such as the sigmoid are none. What a forward computes by a function is not seen.
    """
    return isinstance(module, RECTIFIERS) or type(module).__name__ in _NAMES


@torch.no_grad()
def watch_activations(network: nn.Module, images: Tensor, seen: Callable[[Tensor], None]) -> None:
    """Runs the network on ``(batch, channels, height, width)`` images and gives ``seen`` what goes into each rectifier, in
    order: its signs are those of what comes out of a ReLU.

    Raises:
        NotApplicable: the network has no rectifier that is a module.
    """
    calls = 0

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += 1
        seen(inputs[0])

    with hooked(network, is_rectifier, lambda module: module.register_forward_pre_hook(look)):
        network(images)
    if not calls:
        raise NotApplicable(
            "looks at which activations are positive, and the network has no ReLU or kin that is a module"
        )


def units_of(values: Tensor) -> Tensor:
    """``(batch, num_units)`` of what a rectifier takes, its units in an order in which nothing has to be copied."""
    return values.movedim(1, -1).flatten(1) if values.dim() == 4 else values.flatten(1)


@contextlib.contextmanager
def hooked(network: nn.Module, wanted: Callable[[nn.Module], bool], hook: Callable[[nn.Module], Any]) -> Iterator[None]:
    """A context in which every module that is ``wanted`` has the hook that ``hook`` puts on it."""
    with contextlib.ExitStack() as removed:
        for module in network.modules():
            if wanted(module):
                removed.callback(hook(module).remove)
        yield
