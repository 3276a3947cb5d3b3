"""The expected cost of a relaxed network: what each block costs, times how much the options count in which it runs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, OpenArch, Option
from oneshot.costs.layers import LayerWalk
from oneshot.costs.lookup import LatencyTable
from oneshot.costs.walking import Call, Stand, Walk
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Skeletons


class _Factor(NamedTuple):
    """The weight of an option, or what it leaves: 1 minus the weight."""

    choice: str
    position: int
    left: bool = False


class ExpectedCost:
    """``sum(cost * product of the weights of the options in which it arises)`` over all calls of a relaxed network (Cai, Zhu and
    Han, ProxylessNAS, ICLR 2019, equation 6; Wu et al., FBNet, CVPR 2019, equation 11). Of a one-hot mix it is the cost of its
    network, with what leads nowhere in it.

    Args:
        space: says where options meet (``make.choose``).
        cost: of one call, given the architecture as far as it is decided where the call is made.

    Raises:
        OpenChoiceError: the space does not say where the options of a choice meet.
    """

    def __init__(self, space: SearchSpace, cost: Callable[[Call, Arch], float]) -> None:
        totals: dict[tuple[_Factor, ...], float] = {}
        for path, call in _open_calls(space):
            totals[path] = totals.get(path, 0.0) + cost(call, _decided(space, path))
        totals = {path: total for path, total in totals.items() if total}
        self._sizes = {choice.name: len(choice.options) for choice in space.choices if len(choice.options) > 1}
        starts, width = {}, 0
        for name, size in self._sizes.items():
            starts[name] = width
            width += size
        longest = max(map(len, totals), default=0)

        def places(path: Sequence[_Factor]) -> list[int]:
            """Of its factors in the weights, what they leave, and a one."""
            own = [starts[factor.choice] + factor.position + (width if factor.left else 0) for factor in path]
            return own + [2 * width] * (longest - len(path))

        self._places = torch.tensor([places(path) for path in totals]).reshape(-1, longest)
        self._totals = torch.tensor(list(totals.values()), dtype=torch.float64)

    @classmethod
    def macs(cls, space: SearchSpace) -> ExpectedCost:
        """Multiply-accumulates of one image, as ``CostTable`` counts them."""
        return cls(space, lambda call, arch: call.macs)

    @classmethod
    def latency(cls, space: SearchSpace, table: LatencyTable) -> ExpectedCost:
        """Milliseconds of the layers in a table of latencies.

        Raises:
            ValueError: the table lacks a layer, or the input size.
        """
        walk, size = LayerWalk(space), space.input_shape(OpenArch(space.choices))[-1]

        def time(call: Call, arch: Arch) -> float:
            name = walk.name(call, arch)
            return table.time(size, name) if name else 0.0

        return cls(space, time)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The expectation, a scalar through which gradients reach the weights: ``(num_options,)`` for each open choice.

        Raises:
            ValueError: a choice has no weights, or not one for each option.
        """
        for name, size in self._sizes.items():
            if name not in weights or len(weights[name]) != size:
                raise ValueError(f"choice {name!r} needs {size} weights to know what it costs")
        flat = torch.cat([weights[name] for name in self._sizes])
        extended = torch.cat([flat, 1 - flat, flat.new_ones(1)])
        places, totals = self._places.to(flat.device), self._totals.to(flat)
        return (extended[places].prod(1) * totals).sum()

    def least(self) -> float:
        """What the cheapest network costs: one choice at a time is set to its cheapest option, until nothing changes."""
        taken = dict.fromkeys(self._sizes, 0)

        def of(taken: Mapping[str, int]) -> float:
            eye = {name: torch.eye(size, dtype=torch.float64) for name, size in self._sizes.items()}
            return float(self({name: eye[name][position] for name, position in taken.items()}))

        cost, before = of(taken), math.inf
        while cost < before:
            before = cost
            for name, size in self._sizes.items():
                costs = [of(taken | {name: position}) for position in range(size)]
                cost = min(costs)
                taken[name] = costs.index(cost)
        return cost


class _Making:
    """The ``make`` of a network in which each option runs on its own, one after the other."""

    def __init__(self, space: SearchSpace, skeletons: Skeletons, stand: Stand, path: list[_Factor]) -> None:
        self._choices = {choice.name: choice for choice in space.choices}
        self._skeletons, self._stand, self._path = skeletons, stand, path

    def __call__(self, name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        return self._stand(self._skeletons.block({}, name, block, args, kwargs))

    def choose(self, name: str, option: Callable[..., Any], channels: int | None = None) -> Any:
        options, rest = self._choices[name].options, () if channels is None else (channels,)
        if len(options) == 1:
            return option(options[0], *rest)
        modules = [(option(value, *rest), (_Factor(name, position),)) for position, value in enumerate(options)]
        kept = [(module, factors) for module, factors in modules if module is not None]
        return _Each(kept, self._path) if kept else None

    def unless(self, taken: Mapping[str, Option], build: Callable[[], nn.Module]) -> nn.Module | None:
        factors: list[_Factor] = []
        for name, value in taken.items():
            options = self._choices[name].options
            if options == (value,):
                return None
            if value in options:
                factors.append(_Factor(name, options.index(value), left=True))
        return _Each([(build(), tuple(factors))], self._path)


class _Each(nn.Module):
    """Runs every option on one input, each under its factors, and gives back what the first one makes."""

    def __init__(self, options: Sequence[tuple[nn.Module, tuple[_Factor, ...]]], path: list[_Factor]) -> None:
        super().__init__()
        self.options = nn.ModuleList([module for module, _ in options])
        self._factors, self._path = [factors for _, factors in options], path

    def forward(self, *inputs: Any) -> Tensor:
        outputs = []
        for module, factors in zip(self.options, self._factors, strict=True):
            with _under(self._path, factors):
                outputs.append(module(*inputs))
        first: Tensor = outputs[0]
        return first


@contextlib.contextmanager
def _under(path: list[_Factor], factors: tuple[_Factor, ...]) -> Iterator[None]:
    path.extend(factors)
    try:
        yield
    finally:
        del path[len(path) - len(factors) :]


def _open_calls(space: SearchSpace) -> list[tuple[tuple[_Factor, ...], Call]]:
    """The calls of the network in which all options are, each with the factors of its weight."""
    found: list[tuple[tuple[_Factor, ...], Call]] = []
    path: list[_Factor] = []
    arch, skeletons = OpenArch(space.choices), Skeletons(space)
    Walk(space).run(
        arch,
        lambda stand: space.build(arch, _Making(space, skeletons, stand, path)),
        lambda call: found.append((tuple(dict.fromkeys(path)), call)),
    )
    return found


def _decided(space: SearchSpace, path: Sequence[_Factor]) -> OpenArch:
    taken = {factor.choice: factor.position for factor in path if not factor.left}
    return OpenArch(
        [
            Choice(choice.name, (choice.options[taken[choice.name]],)) if choice.name in taken else choice
            for choice in space.choices
        ]
    )
