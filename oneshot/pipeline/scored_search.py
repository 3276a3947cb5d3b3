"""Search where the supernet scores whatever a strategy proposes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from oneshot.arch import Arch
from oneshot.costs import CostSettings
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.results import Outcome
from oneshot.progress import progress
from oneshot.search import NSGA2, ControllerSearch, Exhaustive, Problem, RandomSearch, Strategy
from oneshot.spaces.coding import Codes

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)
_EXHAUSTIVE = (
    "Every network within the limits was scored, so there is no random search to compare with: at equal budget it would score "
    "the same ones."
)


class SupernetSearch:
    """One search under one set of limits; run again with the same store, it continues where it was stopped.

    Args:
        cost: the limits.

    Raises:
        ValueError: successive halving with a strategy that reckons with scores, which have to be of the same images then.
    """

    def __init__(self, scores: CandidateScores, costs: CandidateCosts, strategy: Strategy, cost: CostSettings) -> None:
        if scores.settings.halving_images is not None and isinstance(strategy, (ControllerSearch, NSGA2)):
            raise ValueError(
                f"{type(strategy).__name__} needs every candidate's score on the same images: without evaluation.halving_images"
            )
        self.scores, self.costs, self.strategy, self.cost = scores, costs, strategy, cost
        self._best: tuple[float, ...] | None = None

    def search(self) -> Outcome:
        """Searches and runs the random baseline at equal budget, which an exhaustive search has in itself.

        Raises:
            ValueError: no architecture of the space meets the limits; the message gives the range that it can reach.
        """
        scores, exhaustive = self.scores, isinstance(self.strategy, Exhaustive)
        if self.cost.needs_latency and self.cost.latency_table is None:
            log.info(
                "every candidate is timed on this machine: latency measured in other company is noise, so leave it alone"
            )
        total = 0 if exhaustive else 2 * self.strategy.budget
        with scores.store.exported(), progress(log, "search", "network", total=total) as bar:
            problem = self._problem("search", bar)
            problem.check()
            found = self.strategy.search(problem, scores.generator("search"))
            archs = problem.decode(found.codes)
            best = archs[found.best]
            baseline = [] if exhaustive else self._baseline(bar, best, len(archs))
        if exhaustive:
            log.info("best of all %d: %s", len(archs), scores.describe(best))
        return Outcome(
            self.cost,
            best,
            archs,
            baseline,
            type(self.strategy).__name__,
            notes=[_EXHAUSTIVE] if exhaustive else [],
            exhaustive=exhaustive,
            is_random=isinstance(self.strategy, RandomSearch),
        )

    def _problem(self, source: str, bar: tqdm[Any]) -> Problem:
        """The subnets within the limits; ``source`` is what the record calls the candidates."""

        def score(codes: Codes) -> list[tuple[float, ...]]:
            bar.total = max(bar.total, bar.n + len(codes))  # of an exhaustive search known here first
            if bar.n == 0 and not bar.disable:
                bar.unpause()  # what came before, such as measuring blocks, says nothing of how long networks take
            archs = self.costs.coding.decode(codes)
            return self.scores.score_all(archs, source, self.cost.needs_latency, lambda key: self._show(bar, key))

        return self.costs.problem(self.cost, score)

    def _baseline(self, bar: tqdm[Any], best: Arch, budget: int) -> list[Arch]:
        """The candidates of random search with ``budget`` evaluations."""
        log.info("best so far: %s; now random search at equal budget", self.scores.describe(best))
        self._best = None
        problem = self._problem("random", bar)
        found = RandomSearch(num_samples=budget).search(problem, self.scores.generator("baseline"))
        archs = problem.decode(found.codes)
        log.info(
            "best: %s; the best of %d by random search: %s",
            self.scores.describe(best),
            budget,
            self.scores.describe(archs[found.best]),
        )
        return archs

    def _show(self, bar: tqdm[Any], key: tuple[float, ...]) -> None:
        self._best = key if self._best is None else max(self._best, key)
        bar.set_postfix_str(f"best {self.scores.settings.metric} {abs(self._best[-2]):.4f}", refresh=False)
        bar.update()
