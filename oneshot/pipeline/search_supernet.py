"""Search a trained supernet: its subnets scored with inherited weights, the best ones kept, and the reports."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from oneshot.arch import Arch
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import MIN_LEARNED, Evaluator, LearnedWeights, Score
from oneshot.garbage import settled
from oneshot.pipeline.beside_original import measure_original
from oneshot.pipeline.block_errors import BlockErrors, check_block_errors
from oneshot.pipeline.candidate_cards import CandidateCards, save_candidate
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.choosing import choose_by_size, choose_together, first_ranked, random_networks, share_finds
from oneshot.pipeline.combined_scores import CombinedScores
from oneshot.pipeline.distinction import distinction_note
from oneshot.pipeline.evidence import Evidence, evidence_of
from oneshot.pipeline.folders import Trained
from oneshot.pipeline.judging import judge_ranking
from oneshot.pipeline.predicted_search import PredictedSearch, Values
from oneshot.pipeline.results import Conditions, Outcome, SearchResult, write_search_page, write_tradeoff_page
from oneshot.pipeline.retrained_truth import retrain_truth
from oneshot.pipeline.scored_search import SupernetSearch
from oneshot.pipeline.search_settings import INHERITED, RetrainedTruth, SearchSettings
from oneshot.processes import count
from oneshot.runs import Store
from oneshot.search import Derivation, Knapsack, Perturbation
from oneshot.training_free import TrainingFreeScore, TrainingFreeScores, scores_called, those_that_apply

log = logging.getLogger(__name__)


def search_supernet(trained: Trained, data: ImageData, settings: SearchSettings, folder: Path) -> SearchResult:
    """Searches the subnets of a supernet in ``folder``, or continues the search that the folder holds.

    The folder gets ``run.sqlite``, and from it ``candidates.csv`` and ``search.json``; and ``pareto.json``, ``subnet.pt``,
    ``subnet.json``, ``architecture.svg``, ``top.json`` and ``report.html``. Under several sets of limits these lie in a folder
    for each, named by its limit, and a page of all of them beside these.

    Raises:
        ValueError: no architecture meets the limits, settings that do not go together, or the folder holds another search.
        FolderInUseError: another process writes to the folder.
    """
    started = time.monotonic()
    if isinstance(settings.strategy, Knapsack):
        is_repaired = trained.repair(settings.evaluation.repair_images, settings.evaluation.repair) is not None
        check_block_errors(trained, is_repaired, settings.strategy)
    if (
        isinstance(settings.truth, RetrainedTruth)
        and settings.score != INHERITED
        and settings.truth.number < MIN_LEARNED
    ):
        log.warning(
            "truth=retrain:%d judges the ranking only: the weights of witnesses are learned from at least %d retrained networks",
            settings.truth.number, MIN_LEARNED,
        )  # fmt: skip
    with opened_candidates(trained, data, settings, folder) as (scores, costs):
        found = _find(scores, costs, settings, trained, data)
        cards = CandidateCards(scores, costs, trained, data, settings.config)
        truth, learned = settings.truth, None
        if isinstance(truth, RetrainedTruth):
            truth = retrain_truth(scores, list(scores.known), cards.subnet, data, truth)
            learned = scores.learn(truth.held_out) if isinstance(scores, CombinedScores) else None
        outcomes, evidence = _decide(found, scores, costs, settings, learned)
        judged = (
            None
            if truth is None
            else judge_ranking(scores, costs.table, truth, settings.ranking, found.predict, evidence)
        )
        original = measure_original(cards, [outcome.best for outcome in outcomes])
        if isinstance(scores, CombinedScores):
            scores.keep_ranking()  # of the original, too
        if found.errors is not None:
            found.errors.record(scores.known)
        candidates = {arch: cards.candidate(arch) for arch in scores.known}
        folders = _folders(folder, outcomes, settings.limited)
        too_few = _save_best(outcomes, folders, cards)
        result = SearchResult(
            outcomes,
            folders,
            dict(scores.known),
            candidates,
            _conditions(trained, data, scores, costs),
            judged,
            evidence,
            original,
            too_few,
            time.monotonic() - started,
        )
        for outcome, own in zip(outcomes, folders, strict=True):
            distinction = distinction_note(scores, outcome.best, outcome.archs, own)
            write_search_page(own, outcome, result, costs.table, distinction)
        if len(outcomes) > 1:
            page = folder / "report.html"
            write_tradeoff_page(page, result, costs.table, settings.limited, settings.references)
        return result


class _Found(NamedTuple):
    """What searches found, before it is known what the scores are worth.

    Attributes:
        first: the best of several networks, by what the searches went by.
        predict: of networks, where a predictor was asked.
        errors: of blocks, where the strategy went by these.
    """

    outcomes: list[Outcome]
    first: Callable[[Sequence[Arch]], Arch]
    predict: Callable[[Sequence[Arch]], Values] | None
    errors: BlockErrors | None


def _find(
    scores: CandidateScores, costs: CandidateCosts, settings: SearchSettings, trained: Trained, data: ImageData
) -> _Found:
    """Searches under each set of limits."""
    errors = None
    if isinstance(settings.strategy, Knapsack):
        errors = BlockErrors(scores, trained, data)
        settings = replace(settings, strategy=replace(settings.strategy, errors=errors))
    if isinstance(scores, CombinedScores):
        scores.settle([costs.problem(cost) for cost in settings.costs])
    first = first_ranked(scores)
    if settings.predictor is None:
        searches = [SupernetSearch(scores, costs, settings.strategy, cost) for cost in settings.costs]
        return _Found([search.search() for search in searches], first, None, errors)
    predicted = PredictedSearch(scores, costs, settings)
    outcomes = predicted.search()
    return _Found(
        outcomes, first if predicted.evidence is None else predicted.evidence.first, predicted.predict, errors
    )


def _decide(
    found: _Found,
    scores: CandidateScores,
    costs: CandidateCosts,
    settings: SearchSettings,
    learned: LearnedWeights | None,
) -> tuple[list[Outcome], Evidence | None]:
    """The outcomes with the networks that are kept, by what the scores turned out to be worth, and the evidence for that.

    Args:
        learned: the weights of witnesses that were learned from retrained networks.
    """
    outcomes, first = found.outcomes, found.first
    if isinstance(scores, CombinedScores):
        evidence: Evidence | None = scores.evidence(learned)
        outcomes = [choose_together(outcome, scores) for outcome in outcomes]
        first = first_ranked(scores)
    else:
        evidence = evidence_of(scores, costs.table, random_networks(outcomes))
        if evidence is not None and evidence.doubted and settings.predictor is None:
            outcomes = [choose_by_size(outcome, evidence) for outcome in outcomes]
            first = evidence.first
    if isinstance(settings.strategy, Derivation | Perturbation):  # whose networks were decided in training
        return share_finds(outcomes, first, scores, costs, with_random=False), evidence
    return share_finds(outcomes, first, scores, costs, scores.store.searched, scores.is_whole), evidence


def _folders(folder: Path, outcomes: Sequence[Outcome], limited: str) -> list[Path]:
    """The folder of each outcome: the search's own, or one for each limit in it."""
    if len(outcomes) == 1:
        return [folder]
    folders = [folder / f"max_{limited}-{outcome.cost.limits[limited]:g}" for outcome in outcomes]
    for own in folders:
        own.mkdir(exist_ok=True)
    return folders


def _save_best(
    outcomes: Sequence[Outcome], folders: Sequence[Path], cards: CandidateCards
) -> dict[Arch, tuple[int, int]]:
    """Saves the best networks; gives of each that was repaired how many layers had too few images, and of how many."""
    evaluator, too_few = cards.scores.evaluator, {}
    for outcome, own in zip(outcomes, folders, strict=True):
        save_candidate(own, cards.subnet(outcome.best), cards.costs.table)
        if evaluator.repair is not None:
            too_few[outcome.best] = evaluator.too_few_places(outcome.best)
    for note in evaluator.repair_notes():
        log.info("%s", note)
    return too_few


@contextlib.contextmanager
def opened_candidates(
    trained: Trained, data: ImageData, settings: SearchSettings, folder: Path
) -> Iterator[tuple[CandidateScores, CandidateCosts]]:
    """What scores the subnets of a supernet and what knows their costs, for as long as the store of ``folder`` is open; of
    ``settings`` the strategy does not matter.

    Raises:
        ValueError: the folder holds another search.
        FolderInUseError: another process writes to the folder.
    """
    evaluation = settings.evaluation
    if count() > 1:
        if any(cost.needs_latency and cost.latency_table is None for cost in settings.costs):
            raise ValueError(
                "latency is measured on a machine that does nothing else: search on one process, or give cost.latency_table"
            )
        log.info("searching on %d processes", count())
    if evaluation.threads is not None:
        torch.set_num_threads(evaluation.threads)
    costs = CandidateCosts(trained.supernet, settings.costs[0])
    costs.check(settings.costs)
    device = resolve_device(evaluation.device)
    evaluator = Evaluator(
        trained.supernet.to(device).eval(),
        data,
        evaluation,
        device=device,
        seed=settings.seed,
        repair=trained.repair(evaluation.repair_images, evaluation.repair),
        stored_statistics=trained.stored_statistics,
    )
    if evaluator.repair is not None:
        log.info(
            "weights of subnets are repaired on %d training images to give what the largest network gives",
            len(evaluator.fitted_on.images),
        )
    decode = trained.supernet.space.arch
    identity = _identity(trained, data, settings, evaluator)
    named = () if data.record is None else ("data",)  # the name of a folder, where its images are known themselves
    with settled(), Store(folder, identity, lambda text: decode(json.loads(text)), Score, named) as store:
        costs.store = store
        own = (evaluator, costs, store, evaluation, settings.seed)
        if settings.score == INHERITED:
            yield CandidateScores(*own), costs
            return
        asked: list[TrainingFreeScore] = []
        if settings.combination.untrained:
            space = trained.supernet.space
            asked = those_that_apply(space, data, scores_called(settings.combination.untrained), device)

        def untrained(seed: int) -> TrainingFreeScores:
            return TrainingFreeScores(trained.supernet.space, data, asked, seed=seed, device=device)

        yield CombinedScores(*own, trained, untrained, settings.combination), costs


def _identity(trained: Trained, data: ImageData, settings: SearchSettings, evaluator: Evaluator) -> dict[str, Any]:
    """Scores of another supernet, or scored otherwise, must not be mixed with this search's."""
    evaluation = settings.evaluation
    identity: dict[str, Any] = {
        "supernet": trained.fingerprint,
        "data": data.name,
        "seed": settings.seed,
        "calibration_images": evaluation.calibration_images,
        "held_out_images": len(evaluator.held_out.images),
    }
    if evaluator.repair is not None:
        del identity["calibration_images"]  # statistics are not recalibrated
        identity["repair"] = f"on {evaluator.repair.images} images"
    if data.record is not None:
        identity["images"] = data.record.fingerprint
    if evaluation.halving_images is not None:
        identity["halving"] = f"{evaluation.halving_images} images, by {evaluation.metric}"
    return identity


def _conditions(trained: Trained, data: ImageData, scores: CandidateScores, costs: CandidateCosts) -> Conditions:
    return Conditions(
        space=scores.space,
        data=data.name,
        supernet=trained.folder.name,
        step=trained.step,
        total_steps=trained.total_steps,
        metric=scores.settings.metric,
        held_out_images=len(scores.evaluator.held_out.images),
        calibration_images=0 if trained.stored_statistics else len(scores.evaluator.calibration.images),
        repair_images=None if scores.evaluator.repair is None else len(scores.evaluator.fitted_on.images),
        halving_images=scores.settings.halving_images,
        partial_channels=trained.partial_channels,
        seed=scores.seed,
        latency=costs.conditions,
    )
