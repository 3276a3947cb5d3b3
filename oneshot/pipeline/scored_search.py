"""Search a trained supernet: candidates scored with inherited weights, the best one kept, and the report."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from oneshot.arch import Arch
from oneshot.costs import CostSettings
from oneshot.pipeline.candidate_scores import Scorer
from oneshot.pipeline.results import Outcome, write_outcome
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
    """One search under one set of limits; run again in the same folder, it continues where it was stopped.

    Args:
        scorer: scores the candidates, and says in which folder: that gets ``candidates.csv``, ``pareto.json``, ``subnet.pt``,
            ``subnet.json``, ``architecture.svg`` and ``report.html``.
        cost: the limits.

    Raises:
        ValueError: successive halving with a strategy that reckons with scores, which have to be of the same images then.
    """

    def __init__(self, scorer: Scorer, strategy: Strategy, cost: CostSettings) -> None:
        if scorer.evaluation.halving_images is not None and isinstance(strategy, (ControllerSearch, NSGA2)):
            raise ValueError(
                f"{type(strategy).__name__} needs every candidate's score on the same images: without evaluation.halving_images"
            )
        self.scorer, self.strategy, self.cost = scorer, strategy, cost
        self._best: tuple[float, ...] | None = None

    def run(self) -> Arch:
        """Searches, runs the random baseline at equal budget, writes the results, and returns the best architecture.

        Raises:
            ValueError: no architecture of the space meets the limits; the message gives the range that it can reach.
        """
        outcome = self.search()
        write_outcome(self.scorer, outcome, self.scorer.folder)
        return outcome.best

    def search(self) -> Outcome:
        """Searches and runs the random baseline at equal budget, which an exhaustive search has in itself.

        Raises:
            ValueError: as ``run``.
        """
        started = time.monotonic()
        scorer, exhaustive = self.scorer, isinstance(self.strategy, Exhaustive)
        if self.cost.needs_latency and self.cost.latency_table is None:
            log.info(
                "every candidate is timed on this machine: latency measured in other company is noise, so leave it alone"
            )
        total = 0 if exhaustive else 2 * self.strategy.budget
        with scorer.store.exported(), progress(log, "search", "network", total=total) as bar:
            problem = self._problem("search", bar)
            problem.check()
            found = self.strategy.search(problem, scorer.generator("search"))
            archs = problem.decode(found.codes)
            best = archs[found.best]
            baseline = [] if exhaustive else self._baseline(bar, best, len(archs))
        if exhaustive:
            log.info("best of all %d: %s", len(archs), scorer.describe(best))
        return Outcome(
            self.cost,
            best,
            archs,
            baseline,
            type(self.strategy).__name__,
            time.monotonic() - started,
            notes=[_EXHAUSTIVE] if exhaustive else [],
            exhaustive=exhaustive,
        )

    def _problem(self, source: str, bar: tqdm[Any]) -> Problem:
        """The subnets within the limits; ``source`` is what the record calls the candidates."""

        def score(codes: Codes) -> list[tuple[float, ...]]:
            bar.total = max(bar.total, bar.n + len(codes))  # of an exhaustive search known here first
            archs = self.scorer.coding.decode(codes)
            return self.scorer.score_all(archs, source, self.cost.needs_latency, lambda key: self._show(bar, key))

        return self.scorer.problem(self.cost, score)

    def _baseline(self, bar: tqdm[Any], best: Arch, budget: int) -> list[Arch]:
        """The candidates of random search with ``budget`` evaluations."""
        scorer = self.scorer
        log.info("best so far: %s; now random search at equal budget", scorer.describe(best))
        self._best = None
        problem = self._problem("random", bar)
        found = RandomSearch(num_samples=budget).search(problem, scorer.generator("baseline"))
        archs = problem.decode(found.codes)
        log.info(
            "best: %s; random search with %d candidates: %s",
            scorer.describe(best),
            budget,
            scorer.describe(archs[found.best]),
        )
        return archs

    def _show(self, bar: tqdm[Any], key: tuple[float, ...]) -> None:
        self._best = key if self._best is None else max(self._best, key)
        bar.set_postfix_str(f"best {self.scorer.evaluation.metric} {abs(self._best[-2]):.4f}", refresh=False)
        bar.update()
