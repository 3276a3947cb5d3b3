"""What has to be known of a network's modules before it runs: which drop values, which keep things, which need care."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import nn

from oneshot.convolutions import module_may_crash


def _drops(module: nn.Module) -> bool:
    """Whether it is a dropout of torch, or drops paths: timm's ``DropPath``, torchvision's ``StochasticDepth``."""
    return isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in ("DropPath", "StochasticDepth")


def keepers_among(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules that do something of their own when their mode is set: some of timm's attention layers keep what they made of
    their weights from one call in eval mode to the next, until they are set to training.
    """
    return [module for module in modules if type(module).train is not nn.Module.train]


class Traits(NamedTuple):
    """Modules that drop values or paths, those that keep things, and whether training some needs care."""

    droppers: list[nn.Module]
    keepers: list[nn.Module]
    may_crash: bool


def traits_of(modules: Iterable[nn.Module]) -> Traits:
    """What there is among ``modules``; of other modules inside of these nothing is said."""
    found = list(modules)
    droppers = [module for module in found if _drops(module)]
    return Traits(droppers, keepers_among(found), any(map(module_may_crash, found)))


def outside(network: nn.Module, blocks: set[nn.Module]) -> Iterator[nn.Module]:
    """The modules of a network that lie in none of its blocks, each once."""
    seen, open_ = set(blocks), [network]
    while open_:
        module = open_.pop()
        if module not in seen:
            seen.add(module)
            yield module
            open_ += [child for child in module._modules.values() if child is not None]


def forget(keepers: list[nn.Module], training: bool) -> None:
    """Makes modules forget what they keep, because the bank's weights may have changed."""
    for module in keepers:
        module.train(True)
        module.train(training)
