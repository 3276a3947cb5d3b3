"""Search a trained supernet: its subnets scored with inherited weights, the best ones kept, and the reports."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import Evaluator, Score
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
from oneshot.pipeline.predicted_search import PredictedSearch
from oneshot.pipeline.results import Conditions, SearchResult, write_search_page, write_tradeoff_page
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
    evaluation, started = settings.evaluation, time.monotonic()
    if isinstance(settings.strategy, Knapsack):
        is_repaired = trained.repair(evaluation.repair_images, evaluation.repair) is not None
        check_block_errors(trained, is_repaired, settings.strategy)
    with opened_candidates(trained, data, settings, folder) as (scores, costs):
        predict, errors, first = None, None, first_ranked(scores)
        if isinstance(settings.strategy, Knapsack):
            errors = BlockErrors(scores)
            settings = replace(settings, strategy=replace(settings.strategy, errors=errors))
        if isinstance(scores, CombinedScores):
            scores.settle([costs.problem(cost) for cost in settings.costs])
        if settings.predictor is None:
            searches = [SupernetSearch(scores, costs, settings.strategy, cost) for cost in settings.costs]
            outcomes = [search.search() for search in searches]
        else:
            predicted = PredictedSearch(scores, costs, settings)
            outcomes, predict = predicted.search(), predicted.predict
            if predicted.evidence is not None:
                first = predicted.evidence.first
        cards = CandidateCards(scores, costs, trained, data, settings.config)
        truth, learned = settings.truth, None
        if isinstance(truth, RetrainedTruth):
            truth = retrain_truth(scores, list(scores.known), cards.subnet, data, truth)
            learned = scores.learn(truth.held_out) if isinstance(scores, CombinedScores) else None
        if isinstance(scores, CombinedScores):
            evidence: Evidence | None = scores.evidence(learned)
            outcomes = [choose_together(outcome, scores) for outcome in outcomes]
            first = first_ranked(scores)
        else:
            evidence = evidence_of(scores, costs.table, random_networks(outcomes))
            if evidence is not None and evidence.doubted and settings.predictor is None:
                outcomes = [choose_by_size(outcome, evidence) for outcome in outcomes]
                first = evidence.first
        if not isinstance(settings.strategy, Derivation | Perturbation):  # whose networks were decided in training
            outcomes = share_finds(outcomes, first, scores, costs, scores.store.searched, scores.is_whole)
        else:
            outcomes = share_finds(outcomes, first, scores, costs, with_random=False)
        judged = (
            None if truth is None else judge_ranking(scores, costs.table, truth, settings.ranking, predict, evidence)
        )
        folders = [folder]
        if len(outcomes) > 1:
            limits = [outcome.cost.limits[settings.limited] for outcome in outcomes]
            folders = [folder / f"max_{settings.limited}-{limit:g}" for limit in limits]
        original = measure_original(cards, [outcome.best for outcome in outcomes])
        if isinstance(scores, CombinedScores):
            scores.keep_ranking()  # of the original, too
        if errors is not None:
            errors.record(scores.known)
        candidates = {arch: cards.candidate(arch) for arch in scores.known}
        under, too_few = _conditions(trained, data, scores, costs), {}
        for outcome, own in zip(outcomes, folders, strict=True):
            own.mkdir(exist_ok=True)
            save_candidate(own, cards.subnet(outcome.best), costs.table)
            if scores.evaluator.repair is not None:
                too_few[outcome.best] = scores.evaluator.too_few_places(outcome.best)
        for note in scores.evaluator.repair_notes():
            log.info("%s", note)
        known = dict(scores.known)
        result = SearchResult(
            outcomes,
            folders,
            known,
            candidates,
            under,
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
    with settled(), Store(folder, identity, lambda text: decode(json.loads(text)), Score) as store:
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
        latency_from_table=costs.settings.latency_table is not None,
    )
