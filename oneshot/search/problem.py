"""What is searched: a space, the scores of its architectures, and the costs that bound them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneshot.arch import Arch, suggest
from oneshot.search.descent import minimise, single_changes
from oneshot.search.limits import check_limits, explain_limits, in_words
from oneshot.spaces.coding import Codes, Coding

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MIN_ACCEPTANCE = 0.05  # from which random architectures are drawn until they are feasible
_NUM_JUDGED = 100  # random architectures that tell how many are feasible
_NUM_JUDGED_SLOWLY = 8  # where a limited cost is slow to know
_NUM_STEPS = 20  # of the random walk from a repaired architecture
_NUM_STEPS_DOWN = 300  # of a random walk to the limits
_STEP_CHOICES = 2  # that one step redraws on average
_NUM_KICKS = 20  # perturbations of an architecture that no single change brings nearer to the limits
_KICK_SIZE = 3
_NUM_RANDOM_STARTS = 2


class Problem:
    """Architectures within ``limits``, whose scores and costs are functions of whole populations.

    A population is ``Codes``: a row of option indices for each architecture, which methods here draw, vary and repair; a strategy
    need not look into it. ``decode`` gives the architectures, whose rows are equal exactly when they are.

    Args:
        coding: of the space.
        score: of ``(num_archs, num_choices)`` codes, higher is better: ``(num_archs,)``, or ``(num_archs, num_entries)`` compared
            entry by entry, such as ``(accuracy, -loss)``. A NaN counts as minus infinity.
        costs: for each name a function of codes, ``(num_archs,)``. They are asked about infeasible architectures, too, and again.
        limits: upper bounds by name of cost.
        cost: the cost that ``NSGA2`` minimises, and by which every strategy breaks ties.
        guides: for costs that are slow to know, such as a measured latency, a quick one that mostly rises and falls with it:
            ``{"latency_ms": "macs"}``. Walks follow the guide; the cost itself is read only where they arrive, once for each
            architecture, and never of one that exceeds another limit.
        written: how limits were written that were not written as numbers, such as ``{"macs": "50%"}``, for messages.

    Raises:
        ValueError: a limit that is not a positive number, or a name that ``costs`` does not have.
    """

    def __init__(
        self,
        coding: Coding,
        score: Callable[[Codes], ArrayLike],
        costs: Mapping[str, Callable[[Codes], ArrayLike]],
        limits: Mapping[str, float] | None = None,
        cost: str = "macs",
        guides: Mapping[str, str] | None = None,
        written: Mapping[str, str] | None = None,
    ) -> None:
        check_limits(limits or {})
        self.coding = coding
        self.limits = dict(limits or {})
        self.cost = cost
        self._score = score
        self._costs = dict(costs)
        self._guides = dict(guides or {})
        self._written = dict(written or {})
        self._remembered: dict[str, dict[bytes, float]] = {name: {} for name in self._guides}
        for name in (*self.limits, cost, *self._guides, *self._guides.values()):
            if name not in costs:
                known = list(costs)
                raise ValueError(f"{name!r} is not a known cost (allowed: {', '.join(known)}){suggest(name, known)}")

    @property
    def limits_in_words(self) -> str:
        """``"max_macs=50% (1.235M) and max_params=1e5"``."""
        return in_words(self.limits, self._written)

    # Populations -----------------------------------------------------------------------------------------------------

    def decode(self, codes: Codes) -> list[Arch]:
        """The architectures of ``codes``, one for each row."""
        return self.coding.decode(codes)

    def score(self, codes: Codes) -> Values:
        """``(num_archs, num_entries)`` without NaN: the scores of ``codes``, compared entry by entry."""
        scores = np.asarray(self._score(codes), dtype=np.float64)
        assert scores.shape[:1] == (len(codes),), f"scores of shape {scores.shape} for {len(codes)} architectures"
        return np.where(np.isnan(scores), -math.inf, scores).reshape(len(codes), -1)

    def mutate(self, codes: Codes, probability: float, rng: np.random.Generator) -> Codes:
        """``codes`` with each choice redrawn with ``probability``; they may exceed the limits."""
        return self.coding.mutate(codes, probability, rng)

    def crossover(self, first: Codes, second: Codes, rng: np.random.Generator) -> Codes:
        """Each choice of each row from one parent or the other; they may exceed the limits."""
        return self.coding.crossover(first, second, rng)

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """``count`` random feasible architectures, not all of them different.

        A random architecture has a uniform option for each active choice, so a network that several sets of options build comes
        as often as they do together. Where the limits leave at least a few percent of these, they are drawn until they are
        feasible; elsewhere they are repaired and then walked at random through feasible ones.

        Raises:
            ValueError: as ``check``.
        """
        kept = [np.empty((0, len(self.coding.num_options)), dtype=np.int16)]
        wanted, tries = count, 100 * count
        while self._acceptance >= _MIN_ACCEPTANCE and wanted > 0 and tries > 0:
            drawn = self.coding.sample(
                wanted if self.is_slow else min(tries, math.ceil(1.1 * wanted / self._acceptance) + 4), rng
            )
            tries -= len(drawn)
            kept.append(drawn[self.feasible(drawn)][:wanted])
            wanted -= len(kept[-1])
        if wanted > 0:
            kept.append(self._wander(self.repair(self.coding.sample(wanted, rng), rng), rng))
        return np.concatenate(kept)

    def repair(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """``codes`` with choices, in a random order, set as in one feasible architecture until every limit is met. Halving the
        order finds how many: between a number that does not suffice and one that does.

        Limits that pull against each other may leave most with nothing but that one architecture; these walk to the limits.

        Raises:
            ValueError: as ``check``.
        """
        repaired = codes.copy()
        wrong = np.flatnonzero(~self.feasible(codes))
        if not len(wrong):
            return repaired
        start, end = codes[wrong], np.broadcast_to(self.example, (len(wrong), codes.shape[1]))
        rank = rng.permuted(np.broadcast_to(np.arange(codes.shape[1]), start.shape), axis=1)
        too_few, enough = np.zeros(len(wrong), dtype=np.int64), np.full(len(wrong), codes.shape[1])
        repaired[wrong] = end
        while len(rows := np.flatnonzero(enough - too_few > 1)):
            middle = (too_few[rows] + enough[rows]) // 2
            mixed = self.coding.mix(start[rows], end[rows], rank[rows] < middle[:, None], rng)
            met = self.feasible(mixed)
            repaired[wrong[rows[met]]] = mixed[met]
            enough[rows[met]], too_few[rows[~met]] = middle[met], middle[~met]
        lost = wrong[(repaired[wrong] == end).all(axis=1)]
        if 2 * len(lost) > len(wrong) and len(self.limits) > 1 and not self.is_slow:
            walked = self._walk_down(codes[lost], rng)
            repaired[lost] = np.where(self.feasible(walked)[:, None], walked, repaired[lost])
        return repaired

    def _walk_down(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Random walks that never raise the violation, up to where the limits are met."""
        ends, violation = codes.copy(), self.violation(codes)
        for _ in range(_NUM_STEPS_DOWN):
            rows = np.flatnonzero(violation > 0)
            if not len(rows):
                break
            changed = self._step(ends[rows], rng)
            reached = self.violation(changed)
            kept = reached <= violation[rows]
            ends[rows[kept]], violation[rows[kept]] = changed[kept], reached[kept]
        return ends

    def _wander(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """The ends of random walks from ``codes`` through feasible architectures: where a cost is slow to know, through those
        whose guides are no higher than where the walk began.
        """
        bounds = {guide: self._read(guide, codes) for guide in self._followed}
        ends = codes
        for _ in range(_NUM_STEPS):
            changed = self._step(ends, rng)
            met = self._within(self._quick_costs(changed), len(changed))
            for guide, bound in bounds.items():
                met &= self._read(guide, changed) <= bound
            ends = np.where(met[:, None], changed, ends)
        return np.where(self.feasible(ends)[:, None], ends, codes) if bounds else ends

    def _step(self, codes: Codes, rng: np.random.Generator) -> Codes:
        return self.mutate(codes, min(1.0, _STEP_CHOICES / max(1, codes.shape[1])), rng)

    @functools.cached_property
    def _acceptance(self) -> float:
        """The part of random architectures that is feasible, judged once and whatever was sampled before."""
        if not self.limits:
            return 1.0
        number = _NUM_JUDGED_SLOWLY if self.is_slow else _NUM_JUDGED
        return float(self.feasible(self.coding.sample(number, np.random.default_rng(0))).mean())

    # Limits ----------------------------------------------------------------------------------------------------------

    @property
    def is_slow(self) -> bool:
        """Whether it takes a cost with a guide to say what is feasible."""
        return bool(self._followed)

    def feasible(self, codes: Codes) -> Mask:
        """``(num_archs,)``: which of ``codes`` meet every limit."""
        return self._within(self._costs_of(codes, self.limits), len(codes))

    def examine(self, codes: Codes) -> tuple[Mask, dict[str, Values]]:
        """Which of ``codes`` meet every limit, and their costs: those limited and the one named ``cost``, ``(num_archs,)`` each.
        A cost with a guide is NaN where it was not read.
        """
        costs = self._costs_of(codes, dict.fromkeys((*self.limits, self.cost)))
        return self._within(costs, len(codes)), costs

    def violation(self, codes: Codes) -> Values:
        """``(num_archs,)``: the sum over the limits of the part by which they are exceeded, 0 exactly where all are met. Costs
        with a guide count where all others are met.
        """
        total = np.zeros(len(codes))
        for name, values in self._costs_of(codes, self.limits).items():
            excess = _excess(values, self.limits[name])
            total += np.where(total > 0, 0.0, excess) if name in self._guides else excess
        return total

    def reach(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest value of each limited cost over the whole space, the other limits aside.

        Found by coordinate descent from the smallest, the largest and random architectures: exact where costs add up
        over choices, and close to it elsewhere. Of a cost with a guide, the values where the guide is least and greatest.
        """
        ends = {name: np.concatenate([self._extreme(name, sign) for sign in (1, -1)]) for name in self.limits}
        return {name: (float(low), float(high)) for name in ends for low, high in [self._read(name, ends[name])]}

    @functools.cached_property
    def example(self) -> Codes:
        """``(1, num_choices)``: one feasible architecture, always the same.

        Raises:
            ValueError: none is found; it names the limits and what the space can reach.
        """
        smallest = self.coding.encode([self.coding.space.smallest])
        if self.feasible(smallest).all():
            return smallest
        cheapest = {name: self._extreme(name, 1) for name in self.limits}
        if all(self._read(name, code)[0] <= self.limits[name] for name, code in cheapest.items()):
            rng = np.random.default_rng(0)
            for code in cheapest.values():
                if self.feasible(found := self._descend(code, rng)).all():
                    return found
        raise ValueError(explain_limits(self.limits, self.reach(), self._written))

    def check(self) -> None:
        """Looks for one feasible architecture.

        Raises:
            ValueError: as ``example``.
        """
        _ = self.example

    def _extreme(self, name: str, sign: int) -> Codes:
        """The architecture with the smallest (``sign`` 1) or the largest (-1) cost, or guide, that descent finds."""
        space = self.coding.space
        descended = self._guides.get(name, name)
        random = self.coding.sample(_NUM_RANDOM_STARTS, np.random.default_rng(0))
        starts = np.concatenate([self.coding.encode([space.smallest, space.largest]), random])

        def value(codes: Codes) -> Values:
            return sign * self._read(descended, codes)

        fill = np.zeros_like(self.coding.num_options) if sign > 0 else self.coding.num_options - 1
        ends = minimise(self.coding, starts, value, fill)
        return ends[[np.argmin(value(ends))]]

    def _descend(self, code: Codes, rng: np.random.Generator) -> Codes:
        """A feasible architecture near ``code``, or where the search for one ended: the best single change again and again; where
        none helps, a few random changes and again (iterated local search; Lourenço et al., 2003).
        """
        best, height = self._go_down(code, rng)
        for _ in range(_NUM_KICKS):
            if self.feasible(best).all():
                break
            kicked = best
            for _ in range(_KICK_SIZE):
                changes = single_changes(self.coding, kicked, rng)
                kicked = changes[[rng.integers(len(changes))]] if len(changes) else kicked
            kicked, reached = self._go_down(kicked, rng)
            if reached <= height:
                best, height = kicked, reached
        return best

    def _go_down(self, code: Codes, rng: np.random.Generator) -> tuple[Codes, tuple[float, float]]:
        """Takes the best change of one choice until the limits are met or nothing improves; and how near it came."""
        (height,) = self._heights(code)
        while not self.feasible(code).all():
            changes = single_changes(self.coding, code, rng)
            heights = self._heights(changes)
            lowest = min(range(len(heights)), key=heights.__getitem__, default=None)
            if lowest is None or not heights[lowest] < height:
                break
            code, height = changes[[lowest]], heights[lowest]
        return code, height

    def _heights(self, codes: Codes) -> list[tuple[float, float]]:
        """What a descent lowers: the excess over limits that are quick to know, and then the guides of the others."""
        excess = sum(
            (_excess(values, self.limits[name]) for name, values in self._quick_costs(codes).items()),
            np.zeros(len(codes)),
        )
        guides = sum((self._read(guide, codes) for guide in self._followed), np.zeros(len(codes)))
        return list(zip(excess.tolist(), guides.tolist(), strict=True))

    # Costs -----------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _followed(self) -> list[str]:
        """The guides of limited costs."""
        return [guide for name, guide in self._guides.items() if name in self.limits]

    def _quick_costs(self, codes: Codes) -> dict[str, Values]:
        return {name: self._read(name, codes) for name in self.limits if name not in self._guides}

    def _costs_of(self, codes: Codes, names: Collection[str]) -> dict[str, Values]:
        """Quick costs first; the others where all limits so far are met."""
        costs = {name: self._read(name, codes) for name in names if name not in self._guides}
        for name in names:
            if name not in costs:
                rows = np.flatnonzero(self._within(costs, len(codes)))
                costs[name] = np.full(len(codes), math.nan)
                costs[name][rows] = self._read(name, codes[rows])
        return costs

    def _within(self, costs: Mapping[str, Values], count: int) -> Mask:
        met = np.ones(count, dtype=np.bool_)
        for name, values in costs.items():
            if name in self.limits:
                met &= values <= self.limits[name]
        return met

    def _read(self, name: str, codes: Codes) -> Values:
        """``(num_archs,)``: one cost, remembered where it has a guide."""
        if name not in self._guides:
            return self._ask(name, codes)
        known = self._remembered[name]
        keys = [code.tobytes() for code in codes]
        rows = list({key: row for row, key in enumerate(keys) if key not in known}.values())
        if rows:
            known.update(zip([keys[row] for row in rows], self._ask(name, codes[rows]).tolist(), strict=True))
        return np.array([known[key] for key in keys], dtype=np.float64)

    def _ask(self, name: str, codes: Codes) -> Values:
        values = np.asarray(self._costs[name](codes), dtype=np.float64)
        assert values.shape == (len(codes),), f"{name} of shape {values.shape} for {len(codes)} architectures"
        return values


def _excess(values: Values, limit: float) -> Values:
    """``values / limit - 1`` where the limit is exceeded, never rounded to 0; a NaN exceeds every limit."""
    return np.where(values <= limit, 0.0, np.where(np.isnan(values), math.inf, (values - limit) / limit))
