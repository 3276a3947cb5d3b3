"""The codes of one search: none comes twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.search.coded import CodedProblem, CodedResult, Values
from oneshot.search.history import MAX_REPEATS, TRIES
from oneshot.spaces.coding import Codes

_FILL = (
    50  # random architectures drawn at once where repeats begin to come: one by one it takes long to be sure of the end
)


@dataclass(frozen=True)
class Evaluated:
    """Codes ``(num_archs, num_choices)``, scores ``(num_archs,)`` and costs ``(num_archs,)`` by name."""

    codes: Codes
    scores: Values
    costs: Mapping[str, Values]

    def __getitem__(self, rows: NDArray[np.int64]) -> Evaluated:
        return Evaluated(
            self.codes[rows], self.scores[rows], {name: values[rows] for name, values in self.costs.items()}
        )

    @staticmethod
    def join(parts: Sequence[Evaluated]) -> Evaluated:
        """All of them, in this order."""
        return Evaluated(
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            {name: np.concatenate([part.costs[name] for part in parts]) for name in parts[0].costs},
        )


class Batch:
    """Feasible codes that wait for their scores."""

    def __init__(self) -> None:
        self.codes: list[Codes] = []
        self.costs: list[dict[str, Values]] = []

    def __len__(self) -> int:
        return sum(map(len, self.codes))


class CodedHistory:
    """What one search over codes has evaluated, as ``History``."""

    def __init__(self, problem: CodedProblem) -> None:
        self.problem = problem
        self._evaluated: list[Evaluated] = []
        self._taken: set[bytes] = set()
        self._exhausted = False

    def evaluate(self, batch: Batch) -> Evaluated:
        """Evaluates one batch."""
        codes = np.concatenate(batch.codes)
        costs = {name: np.concatenate([part[name] for part in batch.costs]) for name in batch.costs[0]}
        self._evaluated.append(Evaluated(codes, self.problem.score(codes), costs))
        return self._evaluated[-1]

    def result(self) -> CodedResult:
        """Everything that was evaluated."""
        found = Evaluated.join(self._evaluated)
        cost = self.problem.cost
        order = np.lexsort((found.costs[cost], -found.scores))
        return CodedResult(found.codes, found.scores, found.costs, cost, int(order[0]))

    def vary(self, draw: Callable[[int], Codes], number: int, batch: Batch) -> None:
        """Appends up to ``number`` feasible codes to ``batch`` that were not taken before: those that ``draw`` gives in ten times
        as many tries.
        """
        wanted, tries, at_once = number, TRIES * number, 2 * number
        while wanted > 0 and tries > 0:
            drawn = draw(min(tries, at_once))
            tries -= len(drawn)
            at_once = 2 * at_once
            wanted -= len(self._take(drawn, wanted, batch))

    def fill(self, batch: Batch, size: int, rng: np.random.Generator) -> None:
        """Fills ``batch`` up to ``size`` with random feasible codes; fewer where the space is exhausted."""
        repeats = 0
        while (wanted := size - len(batch)) > 0 and not self._exhausted:
            drawn = self.problem.sample(max(wanted, _FILL) if repeats else wanted, rng)
            taken = self._take(drawn, wanted, batch)
            repeats = len(drawn) - 1 - taken[-1] if taken else repeats + len(drawn)
            self._exhausted = repeats >= MAX_REPEATS

    def add(self, codes: Codes, batch: Batch) -> None:
        """Appends all feasible ones of ``codes`` to ``batch`` that were not taken before."""
        self._take(codes, len(codes), batch)

    def _take(self, codes: Codes, number: int, batch: Batch) -> list[int]:
        """Appends the first ``number`` feasible codes that were not taken before; their rows."""
        costs = self.problem.costs(codes)
        rows: list[int] = []
        for row in np.flatnonzero(self.problem.feasible(costs, len(codes))).tolist():
            if len(rows) == number:
                break
            key = codes[row].tobytes()
            if key not in self._taken:
                self._taken.add(key)
                rows.append(row)
        if rows:
            batch.codes.append(codes[rows])
            batch.costs.append({name: values[rows] for name, values in costs.items()})
        return rows
