"""A mix: how much each option of each choice counts, where an architecture takes one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from oneshot.arch import Choice, Option, suggest
from oneshot.reading import short


class Mix(Mapping[str, Tensor]):
    """Weights over the options of choices: ``(num_options,)`` for each, in the order of its options. They need not add up to 1.
    Options of weight zero are not run and cost nothing. Immutable; the weights may be part of a graph, to which gradients flow.

    Args:
        weights: by choice.
        probed: by choice, positions of options that are run although they may weigh nothing: their outputs are constants, so
            that their weights get a gradient and the options themselves none (ProxylessNAS's two paths).

    Attributes:
        partial_channels: the options work on one of so many parts of the channels; 1 is all, see ``on_part``.
        skip_dropout: with this probability a value that an identity passes is dropped in training, see ``dropping``.

    Raises:
        ValueError: weights that are not one finite floating-point number for each option, or a position that is none.
    """

    __slots__ = ("_numbers", "_probed", "_weights", "partial_channels", "skip_dropout")

    def __init__(self, weights: Mapping[str, Tensor], probed: Mapping[str, Iterable[int]] | None = None) -> None:
        self._weights = dict(weights)
        self.partial_channels, self.skip_dropout = 1, 0.0
        for name, value in self._weights.items():
            if not isinstance(value, Tensor) or value.dim() != 1 or not value.is_floating_point():
                raise ValueError(f"the weights of {name!r} are a tensor of one dimension, not {short(value)}")
        rows = list(self._weights.values())
        # One transfer for all choices: on another device each one waits for it.
        flat = torch.cat([row.detach() for row in rows]).tolist() if rows else []
        ends, self._numbers = 0, {}
        for name, row in self._weights.items():
            self._numbers[name] = tuple(flat[ends : ends + len(row)])
            ends += len(row)
            if not all(abs(number) < float("inf") for number in self._numbers[name]):
                raise ValueError(f"the weights of {name!r} are no finite numbers: {list(self._numbers[name])}")
        self._probed = {name: frozenset(positions) for name, positions in (probed or {}).items()}
        for name, positions in self._probed.items():
            if not positions <= set(range(len(self._numbers.get(name, ())))):
                raise ValueError(f"{name!r} has no options at {sorted(positions)} that could be probed")

    @classmethod
    def one_hot(
        cls, choices: Sequence[Choice], values: Mapping[str, Option], dtype: torch.dtype = torch.float32
    ) -> Mix:
        """The mix that takes ``values`` alone. Choices that have none, because they do not exist there, weigh nothing at all.

        Raises:
            ValueError: a value that is no option of its choice.
        """
        for choice in choices:
            if choice.name in values and values[choice.name] not in choice.options:
                raise ValueError(
                    f"choice {choice.name!r} cannot be {short(values[choice.name])}; its options are {list(choice.options)}"
                )
        names = [choice.name for choice in choices]
        for name in values:
            if name not in names:
                raise ValueError(f"{short(name)} is not a choice of this space{suggest(name, names)}")
        return cls(
            {
                choice.name: torch.tensor(
                    [float(choice.name in values and option == values[choice.name]) for option in choice.options],
                    dtype=dtype,
                )
                for choice in choices
            }
        )

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._weights[name]
        except KeyError:
            raise KeyError(f"{name!r} has no weights in this mix{suggest(name, self._weights)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __repr__(self) -> str:
        return f"Mix({self._numbers})"

    def numbers(self, name: str) -> tuple[float, ...]:
        """The weights of a choice as plain numbers."""
        return self._numbers[name]

    @property
    def takes_one(self) -> bool:
        """Whether at most one option of each choice weighs anything, so that it is a path rather than a mixture."""
        return all(sum(number != 0 for number in numbers) <= 1 for numbers in self._numbers.values())

    def probed(self, name: str) -> frozenset[int]:
        """Positions of the options of a choice that are run as constants."""
        return self._probed.get(name, frozenset())

    def detach(self) -> Mix:
        """The same weights as constants, without what is only probed."""
        return self.weighing({name: value.detach() for name, value in self._weights.items()})

    def weighing(self, weights: Mapping[str, Tensor]) -> Mix:
        """The same mix by other weights, without what is only probed."""
        return Mix(weights).on_part(self.partial_channels).dropping(self.skip_dropout)

    def on_part(self, partial_channels: int) -> Mix:
        """The same mix on one of so many parts of the channels, see ``oneshot.spaces.partial``."""
        made = copy.copy(self)
        made.partial_channels = partial_channels
        return made

    def dropping(self, skip_dropout: float) -> Mix:
        """The same mix with dropout after options that are an identity (P-DARTS)."""
        made = copy.copy(self)
        made.skip_dropout = skip_dropout
        return made
