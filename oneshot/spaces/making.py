"""What ``build`` asks for blocks, and where it says that alternatives meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from oneshot.arch import Option

Chosen = TypeVar("Chosen", nn.Module, nn.Module | None)


class Make(Protocol):
    """Makes the block called ``name``: ``make("stage1.block2", InvertedResidual, 24, 40, stride=2)``.

    Every module with parameters or buffers is made through it. Blocks of the same name share weights across architectures,
    a smaller tensor being cut from a larger one of the same name.
    """

    def __call__(self, name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module: ...

    def choose(self, name: str, option: Callable[..., Chosen], channels: int | None = None) -> Chosen:
        """What stands where the options of choice ``name`` meet: ``option(value)`` of the architecture's value, or a module that
        adds up what all options make of its input, each by its weight. None from ``option`` is zero, and what comes back
        is None where there is nothing but zero.

        Args:
            channels: of the input and the output, where options can work on fewer: it is then ``option(value, channels)``, and
                a relaxed network may give it a part of them, see ``oneshot.spaces.partial``.
        """

    def unless(self, taken: Mapping[str, Option], build: Callable[[], nn.Module]) -> nn.Module | None:
        """What ``build`` makes, unless one of these choices takes its value here; where choices are mixed, as much of it as
        their weights leave: the product of ``1 - weight``.
        """


class Making:
    """The ``make`` of one architecture.

    Args:
        arch: whose options are chosen.
        make: makes a block.
    """

    def __init__(self, arch: Mapping[str, Option], make: Callable[..., nn.Module]) -> None:
        self._arch, self._make = arch, make

    def __call__(self, name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        return self._make(name, block, *args, **kwargs)

    def choose(self, name: str, option: Callable[..., Chosen], channels: int | None = None) -> Chosen:
        """The module of the architecture's option."""
        return option(self._arch[name]) if channels is None else option(self._arch[name], channels)

    def unless(self, taken: Mapping[str, Option], build: Callable[[], nn.Module]) -> nn.Module | None:
        """What ``build`` makes, or None where the architecture has one of these values."""
        return None if any(self._arch[name] == value for name, value in taken.items()) else build()


def construct(arch: Mapping[str, Option]) -> Making:
    """The ``make`` of an architecture that calls constructors and nothing else."""
    return Making(arch, lambda name, block, *args, **kwargs: block(*args, **kwargs))


def check_trains_logits(network: nn.Module, name: str, images: Tensor) -> None:
    """Raises ValueError where ``network``, called ``name``, in eval mode, gives something else than logits in training.

    Args:
        images: that it takes, without values, as the network is.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            logits = network.train()(images.repeat(2, 1, 1, 1))
    except Exception:  # what cannot be known without values
        return
    finally:
        network.eval()
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"in training {name} gives {type(logits).__name__}, not logits alone: leave out what else there is, such as "
            "auxiliary classifiers"
        )


def check_initialised(network: nn.Module, name: str) -> None:
    """Raises ValueError where layers of ``network``, called ``name``, take their size from the first input."""
    for path, module in network.named_modules():
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in module._parameters.values()):
            raise ValueError(
                f"{path or type(module).__name__} of {name} is a {type(module).__name__} that has no size yet: the function that "
                "makes the network has to give it one, or to run the network once on images"
            )


def check_untied(network: nn.Module, name: str) -> None:
    """Raises ValueError where several modules of ``network``, called ``name``, have one parameter: each would get its own."""
    holders: dict[int, str] = {}
    for path, module in network.named_modules():
        for local, parameter in module._parameters.items():
            if parameter is None:
                continue
            place = f"{path}.{local}" if path else local
            first = holders.setdefault(id(parameter), place)
            if first != place:
                raise ValueError(
                    f"{first} and {place} of {name} are one parameter, which no two layers can share here: use one layer in both "
                    "places"
                )
