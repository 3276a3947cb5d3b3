"""Architectures as rows of integers, so that a whole population is drawn, varied and encoded at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch, Option
from oneshot.spaces.base import SearchSpace

Codes = NDArray[np.int16]
"""``(num_archs, num_choices)``: the index of the option taken for each choice, -1 for an inactive choice."""

INACTIVE = -1


class Coding:
    """Architectures of ``space`` as ``Codes``: one row each, its columns in the order of ``space.choices``.

    Rows are equal exactly when the architectures are. The operators cost a few calls for a whole population; in a space with
    canonical forms they take a Python step for each row.

    Attributes:
        num_options: of each choice.
        columns: the choice and the option that each column of ``one_hot`` stands for.
    """

    def __init__(self, space: SearchSpace) -> None:
        space.check()
        self.space = space
        self.num_options: NDArray[np.int64] = np.array(
            [len(choice.options) for choice in space.choices], dtype=np.int64
        )
        self.columns: tuple[tuple[str, Option], ...] = tuple(
            (choice.name, option) for choice in space.choices for option in choice.options
        )
        self._bounds = self.num_options.astype(np.float32)
        self._names = [choice.name for choice in space.choices]
        self._indices: list[dict[Option | None, int]] = [
            {option: index for index, option in enumerate(choice.options)} for choice in space.choices
        ]
        self._column_choice = np.repeat(np.arange(len(space.choices)), self.num_options)
        self._column_option = np.concatenate([[], *map(np.arange, self.num_options)]).astype(np.int16)
        self._levels = _levels(space)
        self._has_canonical_forms = type(space).canonical is not SearchSpace.canonical

    # Conversion ------------------------------------------------------------------------------------------------------

    def encode(self, archs: Iterable[Arch]) -> Codes:
        """The codes of ``archs``.

        Raises:
            ValueError: one is not an architecture of the space.
        """
        archs = list(archs)
        columns = [(name, index.get) for name, index in zip(self._names, self._indices, strict=True)]
        rows = [
            [index(value(name), INACTIVE) for name, index in columns]
            for value in (arch.to_dict().get for arch in archs)
        ]
        codes = np.array(rows, dtype=np.int16).reshape(len(rows), len(columns))
        wrong = (codes >= 0).sum(axis=1) != list(map(len, archs))
        wrong |= (self._is_active(codes) != (codes >= 0)).any(axis=1)
        for row in np.flatnonzero(wrong):
            self.space.validate(archs[row])
        return codes

    def decode(self, codes: Codes) -> list[Arch]:
        """The architectures of ``codes``; the inverse of ``encode``.

        Raises:
            ValueError: a row holds an option that its choice does not have, or one of an inactive choice, or none of an active
                one.
        """
        codes = np.asarray(codes)
        self._refuse(codes, (codes >= self.num_options) | (codes < INACTIVE))
        self._refuse(codes, self._is_active(codes) != (codes >= 0))
        return [Arch(self._values(row)) for row in codes.tolist()]

    def canonical(self, codes: NDArray[np.integer[Any]]) -> Codes:
        """The codes of the architectures that take these options wherever a choice is active: options of inactive choices are
        dropped, and rows that build one network become equal.

        Raises:
            ValueError: a row holds an option that its choice does not have, or none of an active choice.
        """
        self._refuse(codes, (codes >= self.num_options) | (codes < INACTIVE))
        settled = codes.astype(np.int16)
        self._drop_inactive(settled)
        self._refuse(settled, (settled < 0) & self._is_active(settled))
        return self._merge(settled)

    def one_hot(self, codes: Codes) -> NDArray[np.float32]:
        """``(num_archs, num_features)``: one-hot options of all choices one after another, zeros for an inactive one: the
        input of a predictor.
        """
        features: NDArray[np.float32] = (codes[:, self._column_choice] == self._column_option).astype(np.float32)
        return features

    # Operators -------------------------------------------------------------------------------------------------------

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """``count`` random architectures: a uniform option for each active choice."""
        return self._settle(self._draw(count, rng))

    def mutate(self, codes: Codes, probability: float, rng: np.random.Generator) -> Codes:
        """``codes`` with each choice redrawn uniformly with ``probability``; choices that become active are drawn."""
        redrawn = (rng.random(codes.shape) < probability) | (codes < 0)
        return self._settle(np.where(redrawn, self._draw(len(codes), rng), codes))

    def crossover(self, first: Codes, second: Codes, rng: np.random.Generator) -> Codes:
        """Each choice of each row from one parent or the other, at even odds among those that have it; drawn where neither
        does.
        """
        return self.mix(first, second, rng.random(first.shape) < 0.5, rng)

    def mix(self, first: Codes, second: Codes, from_second: NDArray[np.bool_], rng: np.random.Generator) -> Codes:
        """The choices of ``first``, and those of ``second`` where ``from_second`` says so or only ``second`` has them; drawn
        where neither does.
        """
        mixed = np.where((from_second & (second >= 0)) | (first < 0), second, first)
        missing = mixed < 0
        return self._settle(np.where(missing, self._draw(len(mixed), rng), mixed) if missing.any() else mixed)

    def _draw(self, count: int, rng: np.random.Generator) -> Codes:
        """An option for every choice, active or not."""
        # Faster than integers() with a bound for each column. The product is never rounded up to the bound.
        drawn = rng.random((count, len(self._bounds)), dtype=np.float32)
        return (drawn * self._bounds).astype(np.int16)

    def _settle(self, codes: Codes) -> Codes:
        """As ``canonical`` of codes with an option for every active choice. Overwrites ``codes``."""
        self._drop_inactive(codes)
        return self._merge(codes)

    def _drop_inactive(self, codes: Codes) -> None:
        for level in self._levels:
            codes[:, level.columns] = np.where(level.is_active(codes), codes[:, level.columns], np.int16(INACTIVE))

    def _merge(self, codes: Codes) -> Codes:
        if self._has_canonical_forms:
            return self.encode([Arch(self.space.canonical(self._values(row))) for row in codes.tolist()])
        return codes

    def _refuse(self, codes: NDArray[np.integer[Any]], wrong: NDArray[np.bool_]) -> None:
        if wrong.any():
            row, choice = (int(position[0]) for position in np.nonzero(wrong))
            raise ValueError(
                f"row {row} is no architecture of this space: option {codes[row, choice]} of choice {self._names[choice]!r}"
            )

    def _is_active(self, codes: Codes) -> NDArray[np.bool_]:
        active = np.ones(codes.shape, dtype=np.bool_)
        for level in self._levels:
            active[:, level.columns] = level.is_active(codes)
        return active

    def _values(self, row: list[int]) -> dict[str, Option]:
        choices = zip(self.space.choices, row, strict=True)
        return {choice.name: choice.options[index] for choice, index in choices if index >= 0}


class _Level:
    """Conditional choices that depend on nothing but choices of earlier levels.

    Attributes:
        columns: of these choices.
    """

    def __init__(self, space: SearchSpace, columns: list[int]) -> None:
        position = {choice.name: index for index, choice in enumerate(space.choices)}
        conditions = [space.choices[column].when for column in columns]
        num_terms, num_options = max(map(len, conditions)), max(len(choice.options) for choice in space.choices)
        self.columns = np.array(columns)
        self._parents = np.zeros((len(columns), num_terms), dtype=np.int64)
        self._rows = np.arange(len(columns))
        # The last entry is that of an inactive parent, which -1 finds. Choices with fewer terms have some that always hold.
        self._allowed = np.ones((*self._parents.shape, num_options + 1), dtype=np.bool_)
        for row, condition in enumerate(conditions):
            for term, (name, allowed) in enumerate(condition):
                self._parents[row, term] = position[name]
                options = space.choices[position[name]].options
                self._allowed[row, term] = [
                    *(option in allowed for option in options),
                    *[False] * (num_options + 1 - len(options)),
                ]

    def is_active(self, codes: Codes) -> NDArray[np.bool_]:
        """``(num_archs, num_columns)``"""
        holds: NDArray[np.bool_] = self._allowed[self._rows, 0, codes[:, self._parents[:, 0]]]
        for term in range(1, self._parents.shape[1]):
            holds &= self._allowed[self._rows, term, codes[:, self._parents[:, term]]]
        return holds


def _levels(space: SearchSpace) -> list[_Level]:
    depth: dict[str, int] = {}
    columns: dict[int, list[int]] = {}
    for index, choice in enumerate(space.choices):
        depth[choice.name] = max((depth[name] + 1 for name, _ in choice.when), default=0)
        columns.setdefault(depth[choice.name], []).append(index)
    return [_Level(space, columns[level]) for level in sorted(columns) if level > 0]
