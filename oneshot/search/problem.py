"""What is searched: a space, the score of its architectures, and the costs that bound it."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from oneshot.arch import Arch, suggest
from oneshot.search.descent import go_down, minimise, random_change, step_down
from oneshot.search.limits import check_limits, explain_limits
from oneshot.spaces.base import SearchSpace

Score = tuple[float, ...]
"""Higher is better, compared entry by entry: ``(accuracy, -loss)``."""

_NUM_REJECTIONS = 100
_NUM_MEASURED_REJECTIONS = 8  # where a limited cost is measured
_NUM_REPAIRS = 5
_NUM_KICKS = 20  # perturbations of an architecture that no single change brings nearer to the limits
_KICK_SIZE = 3
_NUM_RANDOM_STARTS = 2
_NUM_RECENT = 2**14  # costs of infeasible architectures that are remembered


class Problem:
    """Architectures of ``space`` within ``limits``, scored in batches, each of them once.

    Attributes:
        evaluated: the score of every architecture that was evaluated, in that order.

    Args:
        space: where the architectures come from.
        score: scores many architectures at once; a NaN in a score counts as minus infinity.
        costs: the costs of one architecture by name. Answers are remembered: those for feasible architectures for good,
            the others for a while. Only names that are needed are read, limits in their order and up to the first that
            is exceeded, so that a mapping may compute its values on demand.
        limits: upper bounds by name of cost.
        cost: the cost that ``NSGA2`` minimises, and by which every strategy breaks ties.
        guides: for costs that are slow to know, such as a measured latency, a quick one that mostly rises and falls with it:
            ``{"latency_ms": "macs"}``. Walks follow the guide, and the cost itself is read only where they arrive.

    Raises:
        ValueError: a limit that is not a positive number; any method: a name that ``costs`` does not give.
    """

    def __init__(
        self,
        space: SearchSpace,
        score: Callable[[Sequence[Arch]], Sequence[Score]],
        costs: Callable[[Arch], Mapping[str, float]],
        limits: Mapping[str, float] | None = None,
        cost: str = "macs",
        guides: Mapping[str, str] | None = None,
    ) -> None:
        check_limits(limits or {})
        self._guides = {name: guide for name, guide in (guides or {}).items() if name in (limits or {})}
        self.space = space
        self.limits = dict(limits or {})
        self.cost = cost
        self.evaluated: dict[Arch, Score] = {}
        self._score = score
        # Rejection sampling sees many architectures that it never needs again: only feasible ones are kept for good.
        self._recent_costs = functools.lru_cache(_NUM_RECENT)(costs)
        self._feasible_costs: dict[Arch, Mapping[str, float]] = {}

    def evaluate(self, archs: Sequence[Arch]) -> list[Score]:
        """The scores of ``archs``, all of them feasible; those not evaluated before are scored in one call."""
        unseen = [arch for arch in dict.fromkeys(archs) if arch not in self.evaluated]
        assert all(self.feasible(arch) for arch in unseen), "an architecture outside the limits is never evaluated"
        if unseen:
            scores = self._score(unseen)
            assert len(scores) == len(unseen), f"{len(scores)} scores for {len(unseen)} architectures"
            for arch, score in zip(unseen, scores, strict=True):
                self.evaluated[arch] = tuple(-math.inf if math.isnan(entry) else float(entry) for entry in score)
        return [self.evaluated[arch] for arch in archs]

    # Limits ----------------------------------------------------------------------------------------------------------

    def feasible(self, arch: Arch) -> bool:
        """Whether ``arch`` meets every limit."""
        if arch in self._feasible_costs:
            return True
        if not all(self._cost(arch, name) <= limit for name, limit in self.limits.items()):
            return False
        self._feasible_costs[arch] = self._recent_costs(arch)
        return True

    def violation(self, arch: Arch) -> float:
        """The sum over the limits of the part by which ``arch`` exceeds them: 0 exactly when it is feasible."""
        return sum(_excess(self._cost(arch, name), limit) for name, limit in self.limits.items())

    def cost_of(self, arch: Arch) -> float:
        """The cost named ``cost``."""
        return self._cost(arch, self.cost)

    def reach(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest value of each limited cost over the whole space, the other limits aside.

        Found by coordinate descent from the smallest, the largest and random architectures: exact where costs add up
        over choices, and close to it elsewhere. Of a cost with a guide, the values where the guide is least and greatest.
        """
        return {
            name: (self._cost(self._extreme(name, 1), name), self._cost(self._extreme(name, -1), name))
            for name in self.limits
        }

    @property
    def example(self) -> Arch:
        """One feasible architecture, always the same.

        Raises:
            ValueError: none is found.
        """
        if self._feasible_example is None:
            raise ValueError(explain_limits(self.limits, self.reach()))
        return self._feasible_example

    def check(self) -> None:
        """Looks for one feasible architecture.

        Raises:
            ValueError: none is found; it names the limits and what the space can reach. Or a limit or the cost has a
                name that is not known.
        """
        for name in (*self.limits, self.cost):
            self._cost(self.space.smallest, name)
        _ = self.example

    # Feasible architectures ------------------------------------------------------------------------------------------

    def sample(self, rng: random.Random) -> Arch:
        """A random feasible architecture.

        It is uniform where the limits leave at least a few percent of the space, and elsewhere a random architecture
        that was repaired.

        Raises:
            ValueError: as ``check``.
        """
        for _ in range(self._num_rejections if self._is_loose else 0):
            arch = self.space.sample(rng)
            if self.feasible(arch):
                return arch
        for _ in range(_NUM_REPAIRS if self._feasible_example else 0):
            repaired = self.repair(self.space.sample(rng), rng)
            if repaired is not None:
                return repaired
        return self._wander(rng)

    def repair(self, arch: Arch, rng: random.Random) -> Arch | None:
        """A feasible architecture near ``arch``, or None where none is found.

        Random changes of single choices that lower the violation; where none does, a few random changes and again
        (iterated local search; Lourenço et al., 2003).
        """
        if self._guides:
            return self._repair_by_guides(arch, rng)
        best = go_down(self.space, arch, self.violation, rng)
        for _ in range(_NUM_KICKS):
            if self.feasible(best):
                return best
            kicked = best
            for _ in range(_KICK_SIZE):
                kicked = random_change(self.space, kicked, rng)
            kicked = go_down(self.space, kicked, self.violation, rng)
            if self.violation(kicked) <= self.violation(best):
                best = kicked
        return best if self.feasible(best) else None

    def _repair_by_guides(self, arch: Arch, rng: random.Random) -> Arch | None:
        """Random single changes that lower the guides, and quick limits with priority, until every limit is met."""
        quick = [name for name in self.limits if name not in self._guides]
        start = {guide: self._cost(arch, guide) for guide in self._guides.values()}

        def height(candidate: Arch) -> tuple[float, float]:
            excess = sum(_excess(self._cost(candidate, name), self.limits[name]) for name in quick)
            return excess, sum(self._cost(candidate, guide) / start[guide] for guide in start)

        while not self.feasible(arch):
            lower = step_down(self.space, arch, height, rng)
            if lower is None:
                return None
            arch = lower
        return arch

    @property
    def _num_rejections(self) -> int:
        return _NUM_MEASURED_REJECTIONS if self._guides else _NUM_REJECTIONS

    def _wander(self, rng: random.Random) -> Arch:
        """The end of a random walk through feasible architectures, for limits that hardly any repair meets."""
        arch = self.example
        for _ in range(4 * len(self.space.choices)):
            changed = random_change(self.space, arch, rng)
            if self.feasible(changed):
                arch = changed
        return arch

    @functools.cached_property
    def _is_loose(self) -> bool:
        """Whether rejection sampling is worth its cost, judged once and whatever was sampled before."""
        rng = random.Random(0)
        return any(self.feasible(self.space.sample(rng)) for _ in range(self._num_rejections))

    @functools.cached_property
    def _feasible_example(self) -> Arch | None:
        """The same feasible architecture whatever was sampled before, or None where none is found."""
        if self.feasible(self.space.smallest):
            return self.space.smallest
        cheapest = {name: self._extreme(name, 1) for name in self.limits}
        if any(not self._cost(arch, name) <= self.limits[name] for name, arch in cheapest.items()):
            return None
        rng = random.Random(0)
        return next((found for arch in cheapest.values() if (found := self.repair(arch, rng))), None)

    def _extreme(self, name: str, sign: int) -> Arch:
        """The architecture with the smallest (``sign`` 1) or the largest (-1) cost that descent finds."""

        descended = self._guides.get(name, name)

        def value(arch: Arch) -> float:
            return sign * self._cost(arch, descended)

        ends = [
            minimise(self.space, start, value, lambda choice: choice.options[0 if sign > 0 else -1])
            for start in self._starts()
        ]
        return min(ends, key=value)

    def _starts(self) -> Iterator[Arch]:
        yield self.space.smallest
        yield self.space.largest
        rng = random.Random(0)
        for _ in range(_NUM_RANDOM_STARTS):
            yield self.space.sample(rng)

    def _cost(self, arch: Arch, name: str) -> float:
        costs = self._feasible_costs.get(arch)
        if costs is None:
            costs = self._recent_costs(arch)
        if name not in costs:
            known = list(costs)
            raise ValueError(f"{name!r} is not a known cost (allowed: {', '.join(known)}){suggest(name, known)}")
        return float(costs[name])


def _excess(cost: float, limit: float) -> float:
    """``cost / limit - 1`` where the limit is exceeded, never rounded to 0; a NaN exceeds every limit."""
    if cost <= limit:
        return 0.0
    return math.inf if math.isnan(cost) else (cost - limit) / limit
