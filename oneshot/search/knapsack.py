"""The multiple-choice knapsack: what parts lose by being smaller adds up, and so the least sum under limits can be computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oneshot.arch import Arch
from oneshot.checking import check_count, check_least
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem
from oneshot.spaces.coding import Codes

Errors = Mapping[Arch, Sequence[Mapping[Arch, float]]]
"""By the largest architecture of each input size, for each part of it the architectures in which that part alone differs from
the largest (itself among them), and what they lose.
"""
_ROUNDING = 1e-6  # relative, of a limit: what the solver takes for equal


def _no_errors() -> Errors:
    raise ValueError("search=knapsack weighs the errors of a supernet's blocks: give it those")


@dataclass(frozen=True)
class Knapsack:
    """Evaluates the architectures that lose least under the limits, as far as what their parts lose adds up and costs do: of each
    input size the best, and then of the two sizes whose best ones have the highest scores more that are nearly as good. These are
    the best for errors that are multiplied at random.

    Which parts are smaller is an integer program as in LANA (Molchanov et al., ECCV 2022), solved by HiGHS.

    Args:
        num_samples: architectures evaluated.
        spread: standard deviation of the logarithms of the factors.
        errors: what parts lose.

    Raises:
        ValueError: a number below 1 or a spread below 0; in ``search`` also where nothing is limited, or a limited cost would
            have to be measured, or there are more input sizes than ``num_samples``.
    """

    num_samples: int = 20
    spread: float = 0.3
    errors: Callable[[], Errors] = _no_errors

    def __post_init__(self) -> None:
        check_count(1, "search.", num_samples=self.num_samples)
        check_least(0, "search.", spread=self.spread)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def check_sizes(self, number: int) -> None:
        """Raises ValueError where not every input size would have its answer evaluated."""
        if number > self.num_samples:
            raise ValueError(
                f"search.num_samples={self.num_samples} is fewer than the {number} input sizes, each of which has an answer to "
                f"evaluate: it is at least {number}"
            )

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """What was evaluated, as ``Strategy.search``."""
        if not problem.limits:
            raise ValueError("search=knapsack chooses under a limit, such as cost.max_macs=50%, and there is none")
        if problem.is_slow:
            raise ValueError(
                "search=knapsack adds up what parts cost, which measured latencies do not say: give cost.latency_table"
            )
        problem.check()
        errors = self.errors()
        self.check_sizes(len(errors))
        sizes = [_Size(problem, whole, parts) for whole, parts in errors.items()]
        history = History(problem, self.num_samples, rng)
        answers = [size.least() for size in sizes]
        known = [(size, answer) for size, answer in zip(sizes, answers, strict=True) if answer is not None]
        if known:
            history.propose(np.concatenate([answer for _, answer in known]))
        if not len(first := history.evaluate()):
            raise ValueError(
                f"costs do not add up over the parts of these networks, so none is found within {problem.limits}"
            )
        places = [int(history.find(answer)[0]) for _, answer in known]
        size_of = {place: pair for place, pair in zip(places, known, strict=True) if place >= 0}
        turn = [size_of[row] for row in np.lexsort(-first.scores.T[::-1]).tolist()[:2]]

        def draw(number: int) -> Codes:
            drawn = [
                (size.least(self.spread, rng), answer)
                for size, answer in itertools.islice(itertools.cycle(turn), number)
            ]
            return np.concatenate([answer if code is None else code for code, answer in drawn])

        history.vary(draw, history.left)
        history.evaluate()
        return history.evaluated


class _Size:
    """The integer program of one input size: one option is taken of each part that is there."""

    def __init__(self, problem: Problem, whole: Arch, parts: Sequence[Mapping[Arch, float]]) -> None:
        self._problem, limits = problem, problem.limits
        self._whole = problem.coding.encode([whole])
        self._codes = problem.coding.encode(arch for part in parts for arch in part)
        self._errors = np.array([error for part in parts for error in part.values()])
        costs, whole_costs = (problem.examine(codes)[1] for codes in (self._codes, self._whole))
        self._saved = np.array([(whole_costs[name] - costs[name]) / limit for name, limit in limits.items()])
        self._wanted = np.array([whole_costs[name][0] / limit - 1 for name, limit in limits.items()])
        self._takes = np.zeros((len(parts), len(self._codes)))
        start = 0
        for row, part in zip(self._takes, parts, strict=True):
            own = slice(start, start + len(part))
            changed = (self._codes[own] != self._whole) & (self._codes[own] >= 0)
            row[own] = 1
            if changed.any():  # otherwise it is there in any case
                row[self._codes[:, np.flatnonzero(changed.any(axis=0))[0]] < 0] = 1  # options without the part
            start += len(part)

    def least(self, spread: float = 0.0, rng: np.random.Generator | None = None) -> Codes | None:
        """``(1, num_choices)``: the architecture that loses least; None where none meets the limits. With ``spread`` errors are
        multiplied by random factors.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        errors = self._errors
        if rng is not None:
            errors = errors * np.exp(spread * rng.standard_normal(len(errors)))
        for margin in (0.0, _ROUNDING):
            limits = [LinearConstraint(self._takes, 1, 1), LinearConstraint(self._saved, self._wanted + margin, np.inf)]
            solved = milp(errors, integrality=np.ones(len(errors)), bounds=Bounds(0, 1), constraints=limits)
            if solved.x is None:
                return None
            code: Codes = self._whole.copy()
            for taken in self._codes[solved.x > 0.5]:
                changed = taken != self._whole[0]
                code[0, changed] = taken[changed]
            if self._problem.feasible(code).all():
                return code
        return None
