"""Where the options of a choice meet in a relaxed network: what they make of one input, added up by their weights."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oneshot.mix import Mix
from oneshot.spaces.weighted_sum import weighted_sum

Computed = dict[tuple[Hashable, ...], Tensor]
"""What layers made of an input, by the input and the layers up to there."""


class Mixed(nn.Module):
    """``sum(weight * option(x))`` over the options of a choice that weigh something; the others are not run. An option that is
    None makes zeros.

    Options that are ``nn.Sequential`` and begin with the same modules share what these compute, so that a depth is a mixture of
    the prefixes of one chain, each block of which runs once. So do options, of several mixtures too, that begin with equal
    activations or poolings of one input. An option that ends with batch normalisation is weighed by its scale and shift, which
    takes no pass over the output.

    Args:
        choice: its name.
        options: what its options are, in their order.
    """

    weights: Tensor | None
    numbers: tuple[float, ...]
    running: tuple[int, ...]
    constant: frozenset[int]
    skip_dropout: float

    def __init__(self, choice: str, options: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.choice = choice
        self.options = nn.ModuleList([option for option in options if option is not None])
        places = iter(range(len(self.options)))
        self.places = tuple(-1 if option is None else next(places) for option in options)
        self._sizes = _Sizes(self.options)
        self._chains: list[list[tuple[nn.Module, Hashable]]] | None = None  # made when they are first run
        self.blank()

    def fill(self, mix: Mix) -> tuple[int, ...]:
        """Takes the weights of a mix; returns the positions of the options to run.

        Raises:
            ValueError: the mix has none for this choice, or not one for each option.
        """
        if self.choice not in mix:
            raise ValueError(f"the mix has no weights for choice {self.choice!r}")
        if len(mix[self.choice]) != len(self.places):
            raise ValueError(
                f"choice {self.choice!r} has {len(self.places)} options, and {len(mix[self.choice])} weights in the mix"
            )
        self.skip_dropout = mix.skip_dropout
        return self._take(mix[self.choice], mix.numbers(self.choice), mix.probed(self.choice))

    def _take(self, weights: Tensor, numbers: tuple[float, ...], probed: frozenset[int]) -> tuple[int, ...]:
        self.weights, self.numbers = weights, numbers
        self.running = tuple(
            position
            for position, (place, number) in enumerate(zip(self.places, numbers, strict=True))
            if place >= 0 and (number != 0 or position in probed)
        )
        self.constant = frozenset(position for position in probed if numbers[position] == 0)
        return self.running

    def blank(self) -> None:
        """Lets go of the weights."""
        self.weights, self.numbers, self.running, self.constant = None, (), (), frozenset()
        self.skip_dropout = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether all that weighs anything is zero."""
        return not self.running

    def forward(self, *inputs: Any, computed: Computed | None = None) -> Tensor:
        """Inputs and output are those of the options.

        Args:
            computed: what other mixtures have computed of inputs that are still there, to which this one adds.

        Raises:
            ValueError: options whose outputs differ in shape.
        """
        if not self.running:
            return self._sizes.zeros(inputs)
        assert self.weights is not None
        if self._chains is None:
            self._chains = [_chain(option) for option in self.options]
        computed = {} if computed is None else computed
        own: Computed = {}
        norms = {position: norm for position in self.running if (norm := self._closing_norm(position)) is not None}
        parts = self.weights.unbind() if norms else ()
        outputs = []
        for position in self.running:
            if position in norms:
                with _scaled(norms[position], parts[position]):
                    outputs.append(self._run(position, inputs, computed, own))
            else:
                outputs.append(self._run(position, inputs, computed, own))
        for position, output in zip(self.running, outputs, strict=True):
            if output.shape != outputs[0].shape:
                raise ValueError(
                    f"the options of choice {self.choice!r} make different shapes of one input: option {self.running[0]} "
                    f"{tuple(outputs[0].shape)}, option {position} {tuple(output.shape)}"
                )
        if self.skip_dropout and self.training:
            is_identity = [type(self.options[self.places[position]]) is nn.Identity for position in self.running]
            outputs = [
                functional.dropout(output, self.skip_dropout) if is_dropped else output
                for output, is_dropped in zip(outputs, is_identity, strict=True)
            ]
        return weighted_sum(self.weights, self.numbers, self.running, outputs, frozenset(norms))

    def _closing_norm(self, position: int) -> nn.BatchNorm2d | None:
        """The normalisation by which an option can be weighed; none where its output is a constant, or taken as it is."""
        assert self.weights is not None
        assert self._chains is not None
        if position in self.constant or (self.numbers[position] == 1 and not self.weights.requires_grad):
            return None
        chain = self._chains[self.places[position]]
        last = chain[-1][0] if chain else None
        is_shared = sum(layer is last for other in self._chains for layer, _ in other) > 1
        return last if type(last) is nn.BatchNorm2d and last.affine and not is_shared else None

    def _run(self, position: int, inputs: tuple[Any, ...], computed: Computed, own: Computed) -> Tensor:
        option = self.options[self.places[position]]
        if position in self.constant:
            with torch.no_grad():
                constant: Tensor = option(*inputs)
            return constant
        if len(inputs) != 1 or len(self.running) == 1:
            output: Tensor = option(*inputs)
            return output
        assert self._chains is not None
        value: Tensor = inputs[0]
        path: tuple[Hashable, ...] = (id(value),)
        store = computed
        for layer, key in self._chains[self.places[position]]:
            path = (*path, key)
            if isinstance(key, int):  # a layer of these options alone
                store = own
            if path not in store:
                store[path] = layer(value)
            value = store[path]
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Mixed:
        """A copy with the options that run now, by constant weights."""
        twin = type(self).__new__(type(self))
        nn.Module.__init__(twin)
        memo[id(self)] = twin
        twin.training, twin.choice = self.training, self.choice
        kept = [self.places[position] for position in self.running]
        twin.options = nn.ModuleList([copy.deepcopy(self.options[place], memo) for place in kept])
        twin.places = tuple(kept.index(place) if place in kept else -1 for place in self.places)
        twin._sizes, twin._chains = self._sizes, None
        twin.weights = None if self.weights is None else self.weights.detach().clone()
        twin.numbers, twin.running, twin.constant = self.numbers, self.running, self.constant
        twin.skip_dropout = self.skip_dropout
        return twin


class Remaining(Mixed):
    """What is there unless one of several choices takes a value: weighs ``product(1 - weight of the value)``.

    Args:
        taken: the position of the value, by choice.
        module: what is there.
    """

    def __init__(self, taken: Mapping[str, int], module: nn.Module) -> None:
        super().__init__(" or ".join(taken), [module])
        self.taken = dict(taken)

    def fill(self, mix: Mix) -> tuple[int, ...]:
        for name in self.taken:
            if name not in mix:
                raise ValueError(f"the mix has no weights for choice {name!r}")
        weight = torch.stack([1 - mix[name][position] for name, position in self.taken.items()]).prod(0, keepdim=True)
        number = math.prod(1 - mix.numbers(name)[position] for name, position in self.taken.items())
        return self._take(weight, (number,), frozenset())

    def __deepcopy__(self, memo: dict[int, Any]) -> Mixed:
        twin = super().__deepcopy__(memo)
        assert isinstance(twin, Remaining)
        twin.taken = dict(self.taken)
        return twin


def is_silent(module: nn.Module) -> bool:
    """Whether it is a mixture in which nothing but zeros weighs anything, which a sum may leave out."""
    return isinstance(module, Mixed) and module.is_silent


class _Sizes:
    """Zeros of the shape that options would make, from one of them on the meta device, whose weights never come."""

    def __init__(self, options: nn.ModuleList) -> None:
        self._model = copy.deepcopy(_first(options))
        self._shapes: dict[Any, torch.Size] = {}

    def zeros(self, inputs: tuple[Any, ...]) -> Tensor:
        """Zeros in place of the options' output for these inputs."""
        flat = [tensor for item in inputs for tensor in (item if isinstance(item, (list, tuple)) else [item])]
        key = tuple(tensor.shape for tensor in flat)
        if key not in self._shapes:
            with torch.no_grad():
                self._shapes[key] = self._model(*_on_meta(inputs)).shape
        zeros: Tensor = flat[0].new_zeros(self._shapes[key])
        return zeros

    def __deepcopy__(self, memo: dict[int, Any]) -> _Sizes:
        return self


def _first(options: nn.ModuleList) -> nn.Module:
    """An option without mixtures in it where there is one."""

    def is_plain(option: nn.Module) -> bool:
        return not any(isinstance(part, Mixed) for part in option.modules())

    found = next((option for option in options if is_plain(option)), options[0])
    return _plain(found)


def _plain(module: nn.Module) -> nn.Module:
    """``module`` with an option in place of each mixture."""
    if isinstance(module, Mixed):
        return _first(module.options)
    if not any(isinstance(part, Mixed) for part in module.modules()):
        return module
    twin = copy.copy(module)
    twin._modules = {name: child and _plain(child) for name, child in module._modules.items()}
    return twin


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        # Skeletons are of the default type, whatever the weights are.
        kind = torch.get_default_dtype() if value.is_floating_point() else value.dtype
        return torch.empty_like(value, device="meta", dtype=kind)
    return type(value)(_on_meta(item) for item in value) if isinstance(value, (list, tuple)) else value


_SHARED = (nn.ReLU, nn.AvgPool2d, nn.MaxPool2d)


def _chain(option: nn.Module) -> list[tuple[nn.Module, Hashable]]:
    """The layers that run one after another, and by what each is known: equal layers without weights are one."""
    if type(option).forward is nn.Sequential.forward:
        return [pair for layer in option.children() for pair in _chain(layer)]
    if type(option) in _SHARED and not getattr(option, "inplace", False):
        settings = {
            name: value for name, value in vars(option).items() if not name.startswith("_") and name != "training"
        }
        return [(option, (type(option).__name__, *settings.items()))]
    return [(option, id(option))]


@contextlib.contextmanager
def _scaled(norm: nn.BatchNorm2d, weight: Tensor) -> Iterator[None]:
    """Inside, the scale and the shift are multiplied by a weight."""
    kept = dict(norm._parameters)
    try:
        norm._parameters.update({name: value * weight for name, value in kept.items() if value is not None})  # type: ignore[misc]
        yield
    finally:
        norm._parameters.update(kept)
