"""Where the options of a choice meet in a relaxed network: what they make of one input, added up by their weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.mix import Mix


class Mixed(nn.Module):
    """``sum(weight * option(x))`` over the options of a choice that weigh something; the others are not run. An option that is
    None makes zeros.

    Options that are ``nn.Sequential`` and begin with the same modules share what these compute, so that a depth is a mixture of
    the prefixes of one chain, each block of which runs once.

    Args:
        choice: its name.
        options: what its options are, in their order.
    """

    weights: Tensor | None
    numbers: tuple[float, ...]
    running: tuple[int, ...]
    constant: frozenset[int]

    def __init__(self, choice: str, options: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.choice = choice
        self.options = nn.ModuleList([option for option in options if option is not None])
        places = iter(range(len(self.options)))
        self.places = tuple(-1 if option is None else next(places) for option in options)
        self._sizes = _Sizes(self.options)
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

    @property
    def is_silent(self) -> bool:
        """Whether all that weighs anything is zero."""
        return not self.running

    def forward(self, *inputs: Any) -> Tensor:
        """Inputs and output are those of the options.

        Raises:
            ValueError: options whose outputs differ in shape.
        """
        if not self.running:
            return self._sizes.zeros(inputs)
        computed: dict[tuple[int, ...], Any] = {}
        outputs = [self._run(position, inputs, computed) for position in self.running]
        for position, output in zip(self.running, outputs, strict=True):
            if output.shape != outputs[0].shape:
                raise ValueError(
                    f"the options of choice {self.choice!r} make different shapes of one input: option {self.running[0]} "
                    f"{tuple(outputs[0].shape)}, option {position} {tuple(output.shape)}"
                )
        assert self.weights is not None
        return weighted_sum(self.weights, self.numbers, self.running, outputs)

    def _run(self, position: int, inputs: tuple[Any, ...], computed: dict[tuple[int, ...], Any]) -> Tensor:
        option = self.options[self.places[position]]
        if position in self.constant:
            with torch.no_grad():
                constant: Tensor = option(*inputs)
            return constant
        if type(option) is not nn.Sequential or len(inputs) != 1 or len(self.running) == 1:
            output: Tensor = option(*inputs)
            return output
        value: Tensor = inputs[0]
        path: tuple[int, ...] = ()
        for layer in option:
            path = (*path, id(layer))
            if path not in computed:
                computed[path] = layer(value)
            value = computed[path]
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
        twin._sizes = self._sizes
        twin.weights = None if self.weights is None else self.weights.detach().clone()
        twin.numbers, twin.running, twin.constant = self.numbers, self.running, self.constant
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


def weighted_sum(
    weights: Tensor, numbers: Sequence[float], positions: Sequence[int], outputs: Sequence[Tensor]
) -> Tensor:
    """``sum(weights[p] * output)`` over the outputs and their positions; ``numbers`` are the weights as plain numbers. The
    gradient of a weight is the inner product of the output with the gradient of the sum, that of one without output zero.
    """
    chosen = [numbers[position] for position in positions]
    if not weights.requires_grad and chosen == [1.0]:
        return outputs[0]
    picked = weights if len(positions) == len(weights) else weights[list(positions)]
    total: Tensor = _WeightedSum.apply(chosen, picked, *outputs)
    return total


class _WeightedSum(torch.autograd.Function):
    """One pass over each output, and none is kept where the weights are constants."""

    @staticmethod
    def forward(ctx: Any, numbers: Sequence[float], weights: Tensor, *outputs: Tensor) -> Tensor:
        dtype = outputs[0].dtype
        for output in outputs[1:]:
            dtype = torch.promote_types(dtype, output.dtype)
        total = outputs[0].to(dtype) * numbers[0]
        for number, output in zip(numbers[1:], outputs[1:], strict=True):
            total.add_(output, alpha=number)
        ctx.dtypes = [output.dtype for output in outputs]
        ctx.save_for_backward(weights, *(outputs if ctx.needs_input_grad[1] else ()))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        weights, *outputs = ctx.saved_tensors
        found = None
        if ctx.needs_input_grad[1]:
            found = torch.stack([_dot(grad, output).to(weights.dtype) for output in outputs])
        # By weights on the CPU as by numbers: a tensor without dimensions may lie on another device.
        parts = [
            (grad * weights[index]).to(dtype) if needed else None
            for index, (dtype, needed) in enumerate(zip(ctx.dtypes, ctx.needs_input_grad[2:], strict=True))
        ]
        return None, found, *parts


def _dot(one: Tensor, two: Tensor) -> Tensor:
    if one.dtype in (torch.float16, torch.bfloat16) or two.dtype != one.dtype:
        return (one * two).sum(dtype=torch.promote_types(one.dtype, torch.float32))
    if one.dim() == 4 and two.is_contiguous(memory_format=torch.channels_last):
        one, two = (
            one.permute(0, 2, 3, 1),
            two.permute(0, 2, 3, 1),
        )  # in the order of the memory, so that nothing is copied
    return torch.dot(one.reshape(-1), two.reshape(-1))
