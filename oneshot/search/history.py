"""The architectures of one search: none comes twice, and the best is found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.pareto import pareto_front
from oneshot.search.problem import Problem, Values
from oneshot.spaces.coding import Codes

MAX_REPEATS = 500  # random architectures seen before that are drawn until the space counts as exhausted
_TRIES = 10  # for each child wanted
_FILL = (
    50  # random architectures drawn at once where repeats begin to come: one by one it takes long to be sure of the end
)


@dataclass(frozen=True)
class Evaluated:
    """Architectures and what is known of them, each once, in the order of their evaluation.

    Attributes:
        codes: ``(num_archs, num_choices)``
        scores: ``(num_archs, num_entries)``, compared entry by entry.
        costs: ``(num_archs,)`` by name: those limited, and the one named ``cost``.
        cost: by which ties are broken.
    """

    codes: Codes
    scores: Values
    costs: Mapping[str, Values]
    cost: str

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: NDArray[np.int64] | list[int]) -> Evaluated:
        costs = {name: values[rows] for name, values in self.costs.items()}
        return Evaluated(self.codes[rows], self.scores[rows], costs, self.cost)

    @property
    def best(self) -> int:
        """The row with the highest score; of equal ones that with the lowest cost, then the first."""
        return int(np.lexsort((self.costs[self.cost], *-self.scores.T[::-1]))[0])

    def top(self, number: int) -> Evaluated:
        """Those with the highest scores, best first; of equal ones the first evaluated."""
        return self[np.lexsort(-self.scores.T[::-1])[:number]]

    def front(self) -> list[int]:
        """The rows of the trade-off between the first entry of the score and ``cost``, as ``pareto_front``."""
        return pareto_front(self.scores[:, 0], self.costs[self.cost])

    @staticmethod
    def join(parts: Sequence[Evaluated]) -> Evaluated:
        """All of them, in this order."""
        return Evaluated(
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            {name: np.concatenate([part.costs[name] for part in parts]) for name in parts[0].costs},
            parts[0].cost,
        )


class History:
    """What one search proposes and evaluates, whole populations at a time:

        history = History(problem, budget=1000, rng=rng)
        while len(history.evaluate(fill_to=20)):
            history.propose(problem.mutate(history.evaluated.top(10).codes, 0.1, rng))
        return history.evaluated

    Architectures that exceed the limits, that were proposed before, or for which no budget is left are passed over.

    Args:
        budget: architectures to evaluate at the most.
        rng: draws those that fill a population up.
    """

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator) -> None:
        self.problem = problem
        self._budget, self._rng = budget, rng
        self._evaluated: list[Evaluated] = []
        self._waiting: list[tuple[Codes, dict[str, Values]]] = []
        self._rows: dict[bytes, int] = {}
        self._exhausted = False

    @property
    def left(self) -> int:
        """How many more may be proposed."""
        return self._budget - len(self._rows)

    @property
    def evaluated(self) -> Evaluated:
        """All that were evaluated."""
        if not self._evaluated:
            return self._nothing()
        self._evaluated = [Evaluated.join(self._evaluated)]
        return self._evaluated[0]

    @property
    def waiting(self) -> Codes:
        """Those that were proposed and not yet evaluated."""
        return np.concatenate([self._nothing().codes, *(codes for codes, _ in self._waiting)])

    def find(self, codes: Codes) -> NDArray[np.int64]:
        """``(num_archs,)``: in which rows of ``evaluated`` these are, -1 for those that are not."""
        num_evaluated = len(self._rows) - len(self.waiting)
        rows = np.array([self._rows.get(code.tobytes(), -1) for code in codes], dtype=np.int64)
        return np.where(rows < num_evaluated, rows, -1)

    # Proposals -------------------------------------------------------------------------------------------------------

    def propose(self, codes: Codes) -> int:
        """Proposes ``codes``, which may be made by hand: options of inactive choices are dropped, and several that build one
        network are one. Returns how many of them are new.

        Raises:
            ValueError: one is no architecture of the space.
        """
        return len(self._take(self.problem.coding.canonical(codes), self.left))

    def vary(self, draw: Callable[[int], Codes], number: int) -> None:
        """Proposes up to ``number`` architectures that are new: those that ``draw``, given a number, makes in ten times as many
        tries. ``draw`` makes them by the operators of ``problem``.
        """
        wanted = min(number, self.left)
        tries, at_once = _TRIES * wanted, wanted if self.problem.is_slow else 2 * wanted
        while wanted > 0 and tries > 0:
            drawn = draw(min(tries, at_once))
            tries -= len(drawn)
            wanted -= len(self._take(drawn, wanted))
            at_once = wanted if self.problem.is_slow else 2 * at_once

    def fill(self, size: int) -> None:
        """Proposes random architectures until ``size`` are waiting; fewer where the space is exhausted."""
        wanted = min(size - sum(len(codes) for codes, _ in self._waiting), self.left)
        repeats = 0
        while wanted > 0 and not self._exhausted:
            many = repeats and not self.problem.is_slow
            drawn = self.problem.sample(max(wanted, _FILL) if many else wanted, self._rng)
            taken = self._take(drawn, wanted)
            wanted -= len(taken)
            repeats = len(drawn) - 1 - taken[-1] if taken else repeats + len(drawn)
            self._exhausted = repeats >= MAX_REPEATS

    def evaluate(self, fill_to: int = 0) -> Evaluated:
        """Evaluates what was proposed, filled up to ``fill_to`` with random architectures, in one call; empty where nothing is
        left.

        Raises:
            ValueError: no architecture meets the limits.
        """
        self.fill(fill_to)
        if not self._waiting:
            return self._nothing()
        codes = self.waiting
        costs = {name: np.concatenate([part[name] for _, part in self._waiting]) for name in self._waiting[0][1]}
        self._evaluated.append(Evaluated(codes, self.problem.score(codes), costs, self.problem.cost))
        self._waiting = []
        return self._evaluated[-1]

    def _take(self, codes: Codes, number: int) -> list[int]:
        """Proposes the first ``number`` feasible ones that are new; their rows."""
        new: dict[bytes, int] = {}
        for row, code in enumerate(codes):
            key = code.tobytes()
            if key not in self._rows:
                new.setdefault(key, row)
        if not new or number < 1:
            return []
        keys, rows = list(new), np.array(list(new.values()))
        met, costs = self.problem.examine(codes[rows])
        chosen = np.flatnonzero(met)[:number]
        for place in chosen:
            self._rows[keys[place]] = len(self._rows)
        if len(chosen):
            self._waiting.append((codes[rows[chosen]], {name: values[chosen] for name, values in costs.items()}))
        taken: list[int] = rows[chosen].tolist()
        return taken

    def _nothing(self) -> Evaluated:
        problem = self.problem
        codes = np.empty((0, len(problem.coding.num_options)), dtype=np.int16)
        costs = {name: np.empty(0) for name in dict.fromkeys((*problem.limits, problem.cost))}
        return Evaluated(codes, np.empty((0, 1)), costs, problem.cost)
