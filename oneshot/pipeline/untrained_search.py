"""Search by scores of networks that nobody has trained: the same limits, journal and judging, and no supernet."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneshot import report
from oneshot.arch import Arch, suggest
from oneshot.checking import check_least
from oneshot.costs import CostSettings
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import Score
from oneshot.garbage import settled
from oneshot.pipeline.candidate_cards import blocks_of, graphs_of, save_candidate
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.choosing import choose_together, first_ranked, share_finds
from oneshot.pipeline.drawing import draw_random
from oneshot.pipeline.evidence import WITNESSES, evidence_notes, keep_witnesses, witness_section
from oneshot.pipeline.folders import RANDOM, Subnet
from oneshot.pipeline.judging import JudgedRanking, ranking_section
from oneshot.pipeline.results import Outcome
from oneshot.pipeline.retrained_truth import retrain_truth
from oneshot.pipeline.search_settings import RetrainedTruth, SearchSettings
from oneshot.pipeline.untrained_candidates import ListedScores, UntrainedCandidates
from oneshot.pipeline.untrained_judging import judge_untrained, told_equal, untrained_notes
from oneshot.pipeline.untrained_ranking import Combined, LogRanks, combine_untrained
from oneshot.pipeline.witnesses import Witnesses
from oneshot.progress import progress
from oneshot.runs import Store
from oneshot.search import Exhaustive, Problem, RandomSearch, Strategy
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes
from oneshot.training_free import (
    AZ_NAS,
    SCORES,
    TrainingFreeScore,
    TrainingFreeScores,
    scores_called,
    those_that_apply,
)

log = logging.getLogger(__name__)
PUT_TOGETHER = (LogRanks.name, Combined.name)


@dataclass(frozen=True)
class UntrainedSettings:
    """How networks are scored that nobody has trained.

    Args:
        num_images: of the batch; None is the published number of each score.
        repeats: draws of weights over which scores such as SWAP are a mean; None is the published number, 32 mostly.
        device: "auto", "cpu", "cuda", ...
        threads: CPU threads; None leaves torch's own choice.
    """

    num_images: int | None = None
    repeats: int | None = 1
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_least(2, "untrained.", num_images=self.num_images)
        check_least(1, "untrained.", repeats=self.repeats, threads=self.threads)


class _Networks:
    """New networks of a space, where costs ask a supernet for its subnets."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def extract(self, arch: Arch) -> nn.Module:
        return self.space.network(arch).eval()


@settled()
def search_untrained(
    space: SearchSpace,
    data: ImageData,
    names: Sequence[str],
    untrained: UntrainedSettings,
    settings: SearchSettings,
    folder: Path,
) -> list[Path]:
    """Searches ``space`` by training-free scores in ``folder``, or continues the search that the folder holds.

    The folder gets ``run.sqlite``, ``candidates.csv`` with every score of every candidate and what is made of them,
    ``search.json``, ``report.html``, of ``combined`` ``witnesses.json``, and with a known truth ``ranking.json``; the folder of
    each best network gets ``subnet.pt`` with random weights, to be retrained.

    Args:
        names: the score that ranks and others that break its ties and are judged beside it; or ``az_nas`` or ``combined`` alone.

    Returns:
        The folders of the best networks, one for each set of limits.

    Raises:
        ValueError: there is no such score, it says nothing about this space, no architecture meets the limits, or the folder
            holds another search.
        FolderInUseError: another process writes to the folder.
    """
    if untrained.threads is not None:
        torch.set_num_threads(untrained.threads)
    started, device = time.monotonic(), resolve_device(untrained.device)
    asked = _asked(names, untrained, settings)
    if names[0] == Combined.name:
        asked = those_that_apply(space, data, asked, device)

    def scorer(seed: int) -> TrainingFreeScores:
        return TrainingFreeScores(space, data, asked, seed=seed, device=device)

    identity: dict[str, Any] = {
        "space": space.definition,
        "options": {choice.name: list(choice.options) for choice in space.choices},
        "scores": [repr(score) for score in asked],
        "data": data.name,
        "seed": settings.seed,
    }
    named: tuple[str, ...] = ()
    if data.record is not None:
        identity["images"], named = data.record.fingerprint, ("data",)
    costs = CandidateCosts(_Networks(space), settings.costs[0])
    costs.check(settings.costs)
    with Store(folder, identity, lambda text: space.arch(json.loads(text)), Score, named) as store:
        costs.store = store
        candidates = UntrainedCandidates(
            scorer(settings.seed), costs, store, ListedScores([s.name for s in asked]), settings.seed
        )
        with store.exported():
            if names[0] in PUT_TOGETHER:
                candidates.rank = _put_together(
                    names[0], candidates, costs, settings, lambda: scorer(settings.seed + 1)
                )
            outcomes = [_search(candidates, costs, settings.strategy, cost) for cost in settings.costs]
            _keep_ranking(candidates)
        for line in told_equal(candidates):
            log.warning(line)
        subnet_of = _subnets(candidates, costs, data, settings)
        truth = settings.truth
        if isinstance(truth, RetrainedTruth):
            truth = retrain_truth(candidates, list(candidates.known), subnet_of, data, truth)
            if isinstance(candidates.rank, Combined) and candidates.rank.learn(truth.held_out):
                outcomes = [choose_together(outcome, candidates) for outcome in outcomes]
                with store.exported():
                    _keep_ranking(candidates)
        outcomes = share_finds(outcomes, first_ranked(candidates), candidates, costs, store.searched)
        judged = None if truth is None else judge_untrained(candidates, costs.table, truth, settings.ranking)
        folders = [folder]
        if len(outcomes) > 1:
            folders = [folder / f"max_{settings.limited}-{one.cost.limits[settings.limited]:g}" for one in outcomes]
        for outcome, own in zip(outcomes, folders, strict=True):
            own.mkdir(exist_ok=True)
            save_candidate(own, subnet_of(outcome.best), costs.table)
        _write_page(folder, candidates, costs, data, settings, outcomes, judged, time.monotonic() - started)
    return folders


def check_names(names: Sequence[object]) -> None:
    """Raises ValueError unless ``names`` are scores of untrained networks that can be asked for together."""
    known = [*SCORES, *PUT_TOGETHER]
    if not names:
        raise ValueError(f"score is one or several of {', '.join(known)}, not an empty list")
    for name in names:
        if name not in known:
            raise ValueError(f"score is one or several of {', '.join(known)}, not {name!r}{suggest(str(name), known)}")
        if name in PUT_TOGETHER and len(names) > 1:
            raise ValueError(f"score={name} puts scores together itself and takes no others beside it")


def _asked(names: Sequence[str], untrained: UntrainedSettings, settings: SearchSettings) -> list[TrainingFreeScore]:
    check_names(names)
    listed: Sequence[str] = names
    if names[0] in PUT_TOGETHER:
        listed = AZ_NAS if names[0] == LogRanks.name else settings.combination.untrained
        if not listed:
            raise ValueError(
                "combination.untrained=[] leaves score=combined nothing but counting where there is no supernet: give at least "
                f"one of {', '.join(SCORES)}, or search a supernet"
            )
    return scores_called(listed, untrained.num_images, untrained.repeats)


def _put_together(
    name: str,
    candidates: UntrainedCandidates,
    costs: CandidateCosts,
    settings: SearchSettings,
    redrawn: Callable[[], TrainingFreeScores],
) -> LogRanks | Combined:
    problems = [costs.problem(cost) for cost in settings.costs]
    for problem in problems:
        problem.check()
    drawn = draw_random(problems, settings.combination.num_reference, candidates.generator("reference"))
    reference = [arch for part in drawn for arch in part]
    with progress(log, "reference", "network", total=len(reference)) as bar:
        candidates.score_all(reference, "reference", scored=lambda arch: bar.update())
    if name == LogRanks.name:
        return LogRanks(candidates.values(reference))
    witnesses = Witnesses(costs.coding, costs.table, candidates.scorer, candidates.store)
    return combine_untrained(candidates, witnesses, reference, settings.combination.num_checked, redrawn)


def _search(candidates: UntrainedCandidates, costs: CandidateCosts, strategy: Strategy, cost: CostSettings) -> Outcome:
    """One search under one set of limits, and the random baseline at equal budget."""
    exhaustive = isinstance(strategy, Exhaustive)
    total = 0 if exhaustive else 2 * strategy.budget
    with progress(log, "search", "network", total=total) as bar:

        def problem(source: str) -> Problem:
            def score(codes: Codes) -> list[tuple[float, ...]]:
                bar.total = max(bar.total, bar.n + len(codes))
                archs = costs.coding.decode(codes)
                return candidates.score_all(archs, source, cost.needs_latency, lambda arch: bar.update())

            return costs.problem(cost, score)

        searched = problem("search")
        searched.check()
        found = strategy.search(searched, candidates.generator("search"))
        archs = searched.decode(found.codes)
        best, baseline = archs[found.best], []
        if not exhaustive:
            random = problem("random")
            drawn = RandomSearch(num_samples=len(archs)).search(random, candidates.generator("baseline"))
            baseline = random.decode(drawn.codes)
    log.info("best of %d: %s", len(archs), candidates.describe(best))
    if baseline:
        log.info("the best of %d by random search: %s", len(baseline), candidates.describe(baseline[drawn.best]))
    return Outcome(cost, best, archs, baseline, type(strategy).__name__, exhaustive=exhaustive)


def _keep_ranking(candidates: UntrainedCandidates) -> None:
    """What ranks goes beside the scores that it is made of."""
    candidates.keep_ranking()
    if isinstance(candidates.rank, Combined):
        keep_witnesses(candidates.store.folder / WITNESSES, candidates.rank.evidence)


def _subnets(
    candidates: UntrainedCandidates, costs: CandidateCosts, data: ImageData, settings: SearchSettings
) -> Callable[[Arch], Subnet]:
    """A candidate as a file holds it, with random weights, which retraining from scratch replaces."""

    def subnet(arch: Arch) -> Subnet:
        cost = costs.table.cost(arch)
        card = {
            "macs": cost.macs,
            "params": cost.params,
            "latency_ms": costs.known_latency(arch),
            "scores": candidates.values_of(arch),
            "weights": RANDOM,
            **data.card(),
            "input_shape": list(candidates.space.input_shape(arch)),
        }
        weights = candidates.scorer.untrained(arch).state_dict()
        return Subnet(candidates.space, arch, weights, dict(settings.config), card, data.record)

    return subnet


def _write_page(
    folder: Path,
    candidates: UntrainedCandidates,
    costs: CandidateCosts,
    data: ImageData,
    settings: SearchSettings,
    outcomes: Sequence[Outcome],
    judged: JudgedRanking | None,
    seconds: float,
) -> None:
    space, table = candidates.space, costs.table

    def network(arch: Arch) -> report.ScoredNetwork:
        cost = table.cost(arch)
        ((value, *_),) = candidates.keys([arch])
        scores = {candidates.way: value} | candidates.values_of(arch)
        return report.ScoredNetwork(arch.to_dict(), value, scores, cost.macs, cost.params, costs.known_latency(arch))

    searches = []
    for outcome in outcomes:
        top = candidates.ranked(dict.fromkeys((*outcome.archs, *outcome.baseline)))[:10]
        baseline = candidates.ranked(outcome.baseline)[:1]
        searches.append(
            report.UntrainedSearch(
                limits={f"max_{name}": limit for name, limit in outcome.cost.limits.items()},
                best=network(outcome.best),
                num_candidates=outcome.num_own,
                baseline=network(baseline[0]) if baseline else None,
                top=[network(arch) for arch in top],
                blocks=blocks_of(table, outcome.best),
                graphs=graphs_of(space, outcome.best),
                found=None if outcome.found is None else network(outcome.found),
            )
        )
    evidence = candidates.rank.evidence if isinstance(candidates.rank, Combined) else None
    facts = {
        "space": f"{space.size:.3g} networks",
        "scores": ", ".join(candidates.scorer.names),
        "seed": str(settings.seed),
        "time of this run": f"{seconds:.0f} s",
        "torch": str(torch.__version__),
    }
    if costs.conditions:
        facts["latency"] = costs.conditions
    report.write_untrained_report(
        folder / "report.html",
        report.UntrainedReport(
            title=f"{space.title} on {data.name}, without training",
            space=space.title,
            data=data.name,
            strategy=outcomes[0].strategy,
            score=candidates.way,
            searches=searches,
            facts=facts,
            notes=[
                *dict.fromkeys(note for outcome in outcomes for note in outcome.notes),
                *([] if evidence is None else evidence_notes(evidence, judged is not None)),
                *untrained_notes(candidates, table, judged, outcomes[0].best if len(outcomes) == 1 else None),
            ],
            ranking=None if judged is None else ranking_section(judged, {}, judged.known),
            witnesses=None if evidence is None else witness_section(evidence),
        ),
    )
