"""What a search found, and the pages that show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import CostSettings, CostTable
from oneshot.evaluation import Score
from oneshot.pipeline.candidate_cards import blocks_of, graphs_of
from oneshot.pipeline.evidence import Evidence, evidence_notes, witness_section
from oneshot.pipeline.judging import JudgedRanking, ranking_notes, ranking_section
from oneshot.pipeline.relaxed import partial_note
from oneshot.report.selection import score_of
from oneshot.runs import write_json
from oneshot.search import pareto_front
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class Outcome:
    """What one search under one set of limits found.

    Attributes:
        cost: the limits.
        best: the best architecture.
        archs: the candidates that the supernet scored for the strategy, in order, ``best`` among them.
        found: the strategy's own best where a network is kept that was scored elsewhere, the last of ``archs`` then.
        baseline: those of random search at equal budget.
        strategy: its name for the report.
        predicted: of an architecture, where a predictor was asked.
        notes: about how far the ranking can be trusted, beside those that hold for every search.
        facts: for the report's table.
        exhaustive: whether ``archs`` are all within the limits; there is no baseline then.
        is_random: whether ``archs`` are a random sample of those within the limits.
        chosen_by: in words, where that is not the metric.
        rival: of the baseline, the one chosen alike; None where it is not compared.
        learned_from: what else was scored for the strategy: the networks that a predictor learned from.
    """

    cost: CostSettings
    best: Arch
    archs: Sequence[Arch]
    baseline: Sequence[Arch]
    strategy: str
    predicted: Mapping[Arch, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    exhaustive: bool = False
    is_random: bool = False
    chosen_by: str = ""
    rival: Arch | None = None
    learned_from: Sequence[Arch] = ()
    found: Arch | None = None

    @property
    def num_own(self) -> int:
        """How many the strategy itself proposed."""
        return len(self.archs) - (self.found is not None)


@dataclass(frozen=True)
class Conditions:
    """Under which all candidates of a search were scored.

    Attributes:
        data: its name.
        supernet: the name of its folder.
        step: that its training had reached, of ``total_steps``.
        metric: "accuracy" or "loss".
        held_out_images: their number, of which candidates that successive halving stopped have seen fewer.
        calibration_images: on which statistics were recalibrated; 0 where those of the training stayed.
        repair_images: on which weights were repaired; None where statistics were recalibrated instead, on ``calibration_images``.
        halving_images: the smallest number, None without successive halving.
        partial_channels: on one of how many parts of the channels options were trained.
        latency: how it is known, in words; "" where it is not.
    """

    space: SearchSpace
    data: str
    supernet: str
    step: int
    total_steps: int
    metric: str
    held_out_images: int
    calibration_images: int
    repair_images: int | None
    halving_images: int | None
    partial_channels: int
    seed: int
    latency: str


@dataclass(frozen=True)
class SearchResult:
    """All that a search of a supernet found.

    Attributes:
        outcomes: one for each set of limits.
        folders: where the best network of each lies.
        scores: of all candidates.
        candidates: the same, as reports show them.
        judged: how the ranking agrees with the truth, where that is known.
        evidence: whether witnesses agree, where there are enough networks to tell.
        original: the network that the space was made of, one of ``scores``.
        seconds: that the run took.
        too_few_places: of the best networks, how many layers could not be repaired for lack of images, and how many were to be.
    """

    outcomes: Sequence[Outcome]
    folders: Sequence[Path]
    scores: Mapping[Arch, Score]
    candidates: Mapping[Arch, report.Candidate]
    conditions: Conditions
    judged: JudgedRanking | None = None
    evidence: Evidence | None = None
    original: Arch | None = None
    too_few_places: Mapping[Arch, tuple[int, int]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def shown_original(self) -> report.Candidate | None:
        """The original as reports show it."""
        return None if self.original is None else self.candidates[self.original]

    @property
    def is_random(self) -> bool:
        """Whether all that was scored is one random sample."""
        return len(self.outcomes) == 1 and self.outcomes[0].is_random

    def is_whole(self, arch: Arch) -> bool:
        """Whether a candidate was scored on all held-out images."""
        return self.scores[arch].num_images == self.conditions.held_out_images


def write_search_page(
    folder: Path, outcome: Outcome, result: SearchResult, costs: CostTable, distinction: str | None
) -> None:
    """Writes ``pareto.json`` and ``report.html`` about one outcome.

    Args:
        distinction: how well the best can be told apart, in a sentence.
    """
    cost, space, under, judged = outcome.cost, result.conditions.space, result.conditions, result.judged
    candidates = [result.candidates[arch] for arch in outcome.archs]
    whole = [result.is_whole(arch) for arch in outcome.archs]
    accuracy = under.metric == "accuracy"
    scores = [_ranked_by(candidate, accuracy) for candidate in candidates]
    front = pareto_front(
        [
            score if is_whole and math.isfinite(score) else math.nan
            for score, is_whole in zip(scores, whole, strict=True)
        ],
        [vars(candidate)[cost.minimize] for candidate in candidates],
    )
    places = {arch: place for place, arch in enumerate(result.scores)}  # as rows of candidates.csv
    rows = [vars(candidates[i]) | {"arch": dict(candidates[i].arch), "index": places[outcome.archs[i]]} for i in front]
    for row in rows:
        del row["is_whole"]  # all of them are
        if row["combined"] is None:
            del row["combined"]
    write_json(folder / "pareto.json", rows)
    best = list(outcome.archs).index(outcome.best)
    report.write_search_report(
        folder / "report.html",
        report.SearchReport(
            title=f"{space.title} on {under.data}",
            space=space.title,
            data=under.data,
            strategy=outcome.strategy,
            metric="accuracy" if accuracy else "loss",
            cost=cost.minimize,  # type: ignore[arg-type]
            limits={f"max_{name}": limit for name, limit in cost.limits.items()},
            candidates=candidates,
            baseline=[result.candidates[arch] for arch in outcome.baseline],
            front=front,
            best=best,
            blocks=blocks_of(costs, outcome.best),
            graphs=graphs_of(space, outcome.best),
            facts=facts(result, outcome, [outcome.best]),
            notes=[
                *([] if judged is None else ranking_notes(judged, outcome.best, result.is_random)),
                *outcome.notes,
                *([] if result.evidence is None else evidence_notes(result.evidence, judged is not None)),
                *([] if distinction is None else [distinction]),
                *notes(result, [one for one, seen in zip(candidates, whole, strict=True) if seen], candidates[best]),
            ],
            exhaustive=outcome.exhaustive,
            ranking=None
            if judged is None
            else ranking_section(judged, result.candidates, [*outcome.archs, *outcome.baseline]),
            witnesses=None if result.evidence is None else witness_section(result.evidence),
            chosen_by=outcome.chosen_by,
            rival=None if outcome.rival is None else list(outcome.baseline).index(outcome.rival),
            original=result.shown_original,
            found=None if outcome.found is None else list(outcome.archs).index(outcome.found),
        ),
    )


def _ranked_by(candidate: report.Candidate, accuracy: bool) -> float:
    """What the search ranks a candidate by, higher is better."""
    if candidate.combined is not None:
        return candidate.combined
    return candidate.accuracy if accuracy else -candidate.loss


def write_tradeoff_page(
    path: Path, result: SearchResult, costs: CostTable, limited: str, references: Sequence[report.Reference]
) -> None:
    """Writes a page of all outcomes.

    Args:
        limited: the cost whose limits differ.
        references: networks known from elsewhere to compare with.
    """
    outcomes, under, judged = result.outcomes, result.conditions, result.judged
    metric: report.Metric = "accuracy" if under.metric == "accuracy" else "loss"
    points = []
    for outcome in outcomes:
        best = result.candidates[outcome.best]
        found = None if outcome.found is None else result.candidates[outcome.found]
        rivals = [result.candidates[arch] for arch in outcome.baseline if result.is_whole(arch)]
        rival = max(rivals, key=lambda one: score_of(one, metric), default=None)
        if outcome.chosen_by:  # what has the best metric was not chosen alike
            rival = None if outcome.rival is None else result.candidates[outcome.rival]
        points.append(
            report.TradeoffPoint(
                limit=outcome.cost.limits[limited],
                arch=best.arch,
                cost=vars(best)[limited],
                macs=best.macs,
                params=best.params,
                latency_ms=best.latency_ms,
                predicted=outcome.predicted.get(outcome.best),
                accuracy=best.accuracy,
                baseline=None if rival is None else rival.accuracy,
                blocks=blocks_of(costs, outcome.best),
                loss=best.loss,
                baseline_loss=None if rival is None else rival.loss,
                found=None if found is None else found.accuracy,
                found_loss=None if found is None else found.loss,
            )
        )
    seen = [arch for arch in result.scores if arch != result.original]
    report.write_tradeoff_report(
        path,
        report.TradeoffReport(
            title=f"{under.space.title} on {under.data}",
            space=under.space.title,
            data=under.data,
            strategy=outcomes[0].strategy,
            predictor=outcomes[0].facts.get("predictor", ""),
            cost=limited,  # type: ignore[arg-type]
            points=points,
            scored=[(vars(result.candidates[arch])[limited], result.candidates[arch].accuracy) for arch in seen],
            references=references,
            facts=facts(result, outcomes[0], [outcome.best for outcome in outcomes]),
            notes=[
                *([] if judged is None else ranking_notes(judged, None, result.is_random)),
                *dict.fromkeys(note for outcome in outcomes for note in outcome.notes),
                *([] if result.evidence is None else evidence_notes(result.evidence, judged is not None)),
                *common_notes(result),
            ],
            ranking=None if judged is None else ranking_section(judged, result.candidates, []),
            witnesses=None if result.evidence is None else witness_section(result.evidence),
            original=result.shown_original,
            metric=metric,
            chosen_by=outcomes[0].chosen_by,
        ),
    )


def facts(result: SearchResult, outcome: Outcome, shown: Sequence[Arch]) -> dict[str, str]:
    """What the report says about the conditions of a search, and of the networks that are ``shown``."""
    under = result.conditions
    known = {
        "space": f"{under.space.size:.3g} networks",
        "supernet": f"{under.supernet}, step {under.step} of {under.total_steps}",
        "held-out images": str(result.scores[outcome.best].num_images),
        **(
            {"calibration images": str(under.calibration_images)}
            if under.repair_images is None
            else {"repair images": f"{under.repair_images}{_too_few(result, shown)}"}
        ),
        "input": "x".join(map(str, under.space.input_shape(outcome.best))),
        "seed": str(under.seed),
        "time of this run": f"{result.seconds:.0f} s",
        "torch": str(torch.__version__),
        **outcome.facts,
    }
    if under.latency:
        known["latency"] = under.latency
    return known


def _too_few(result: SearchResult, shown: Sequence[Arch]) -> str:
    left, number = max((result.too_few_places.get(arch, (0, 0)) for arch in shown), default=(0, 0))
    if not left:
        return ""
    most = "up to " if len(shown) > 1 else ""
    return f", too few for {most}{left} of the {number} layers that are repaired"


def notes(result: SearchResult, candidates: Sequence[report.Candidate], chosen: report.Candidate) -> list[str]:
    """How far the ranking can be trusted, from the size of the held-out set."""
    number = result.conditions.held_out_images
    error = (max(chosen.accuracy * (1 - chosen.accuracy), 0.25 / number) / number) ** 0.5
    close = sum(abs(candidate.accuracy - chosen.accuracy) <= 2 * error for candidate in candidates)
    above = sum(candidate.accuracy > chosen.accuracy + 2 * error for candidate in candidates)
    return [
        f"With {number} held-out images the accuracy of the chosen network is known to about ±{100 * error:.1f} points (one "
        f"standard error); {close} of {len(candidates)} candidates lie within two of it{f', {above} above' if above else ''}.",
        *common_notes(result),
    ]


def common_notes(result: SearchResult) -> list[str]:
    """What holds for every accuracy with inherited weights."""
    under = result.conditions
    weights = "inherited weights with recalibrated BatchNorm statistics"
    if under.calibration_images == 0:
        weights = "inherited weights with the BatchNorm statistics that they were trained with"
    if under.repair_images is not None:
        weights = "inherited weights that were repaired in closed form, without labels"
    found = [
        f"Accuracies are those of {weights}: good for ranking, below what retraining reaches. The best of many candidates is "
        "also a little lucky; the test set decides, after retraining."
    ]
    if under.partial_channels > 1:
        note = partial_note(under.partial_channels)
        found = [f"Accuracies are those of {weights}, but {note}. Retraining from scratch and the test set decide."]
    if under.halving_images is not None:
        whole = sum(map(result.is_whole, result.scores))
        found.append(
            f"Successive halving: of {len(result.scores):,} candidates {whole:,} were scored on all held-out images, the "
            f"others on {under.halving_images:,} or more; these rank below, by the images they came to."
        )
    if under.step < under.total_steps:
        found.append(f"The supernet is not fully trained: step {under.step} of {under.total_steps}.")
    return found
