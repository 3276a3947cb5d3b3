"""What a search leaves in its folder: the best subnet, the Pareto front and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import CostSettings
from oneshot.pipeline.candidate_scores import Scorer, blocks_of, graphs_of
from oneshot.pipeline.distinction import distinction_note
from oneshot.pipeline.judging import JudgedRanking, ranking_notes, ranking_section
from oneshot.reading import read_json, short
from oneshot.runs import write_json
from oneshot.search import pareto_front


@dataclass(frozen=True)
class Outcome:
    """What one search under one set of limits found.

    Attributes:
        cost: the limits.
        best: the best architecture.
        archs: the candidates that the supernet scored for the strategy, in order, ``best`` among them.
        baseline: those of random search at equal budget.
        strategy: its name for the report.
        seconds: that it took.
        predicted: of an architecture, where a predictor was asked.
        notes: about how far the ranking can be trusted, beside those that hold for every search.
        facts: for the report's table.
        exhaustive: whether ``archs`` are all within the limits; there is no baseline then.
    """

    cost: CostSettings
    best: Arch
    archs: Sequence[Arch]
    baseline: Sequence[Arch]
    strategy: str
    seconds: float
    predicted: Mapping[Arch, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    exhaustive: bool = False


def write_outcome(scorer: Scorer, outcome: Outcome, folder: Path, judged: JudgedRanking | None = None) -> None:
    """Writes ``pareto.json``, ``subnet.pt``, ``subnet.json``, ``architecture.svg``, ``top.json`` and ``report.html``.

    Args:
        judged: how the ranking of all that the scorer scored agrees with the truth, where that is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cost, space = outcome.cost, scorer.space
    candidates = [scorer.candidate(arch) for arch in outcome.archs]
    accuracy = scorer.evaluation.metric == "accuracy"
    scores = [candidate.accuracy if accuracy else -candidate.loss for candidate in candidates]
    scores = [score if scorer.is_whole(arch) else math.nan for arch, score in zip(outcome.archs, scores, strict=True)]
    whole = [candidate for arch, candidate in zip(outcome.archs, candidates, strict=True) if scorer.is_whole(arch)]
    front = pareto_front(scores, scorer.costs_of(outcome.archs, cost.minimize))
    write_json(
        folder / "pareto.json", [vars(candidates[i]) | {"arch": dict(candidates[i].arch), "index": i} for i in front]
    )
    scorer.save(folder, outcome.best)
    best = list(outcome.archs).index(outcome.best)
    distinction = distinction_note(scorer, outcome.best, outcome.archs, folder)
    report.write_search_report(
        folder / "report.html",
        report.SearchReport(
            title=f"{type(space).__name__} on {scorer.data.name}",
            space=type(space).__name__,
            data=scorer.data.name,
            strategy=outcome.strategy,
            metric="accuracy" if accuracy else "loss",
            cost=cost.minimize,  # type: ignore[arg-type]
            limits={f"max_{name}": limit for name, limit in cost.limits.items()},
            candidates=candidates,
            baseline=[scorer.candidate(arch) for arch in outcome.baseline],
            front=front,
            best=best,
            blocks=blocks_of(scorer.costs, outcome.best),
            graphs=graphs_of(space, outcome.best),
            facts=facts(scorer, outcome),
            notes=[
                *([] if judged is None else ranking_notes(judged)),
                *outcome.notes,
                *([] if distinction is None else [distinction]),
                *notes(scorer, whole, candidates[best]),
            ],
            exhaustive=outcome.exhaustive,
            ranking=None if judged is None else ranking_section(judged, scorer, [*outcome.archs, *outcome.baseline]),
        ),
    )


def read_references(path: Path, limited: str) -> list[report.Reference]:
    """Known networks from a JSON list of objects with ``name``, ``accuracy`` (a fraction) and costs such as ``latency_ms``; those
    without the cost ``limited`` are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or no network with that cost.
    """
    entries = read_json(path, "file of references")
    try:
        found = [
            report.Reference(str(entry["name"]), float(entry[limited]), float(entry["accuracy"]))
            for entry in entries
            if limited in entry
        ]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        reason = f"{type(error).__name__}: {short(str(error))}"
        raise ValueError(f"{path} is not a JSON list of objects with name, accuracy and {limited}: {reason}") from None
    for reference in found:
        if not (math.isfinite(reference.accuracy) and math.isfinite(reference.cost)):
            raise ValueError(f"{path}: the accuracy and the {limited} of {short(reference.name)} are numbers")
    if not found:
        raise ValueError(f"{path} holds no network with {limited}")
    return found


def write_outcomes(
    scorer: Scorer,
    outcomes: Sequence[Outcome],
    limited: str,
    references: Sequence[report.Reference],
    judged: JudgedRanking | None = None,
) -> list[Path]:
    """Writes each outcome to a folder of its own below the scorer's, named by its limit, and a report of all of them; returns
    these folders.

    Args:
        limited: the cost whose limits differ.
        references: networks known from elsewhere to compare with.
        judged: as in ``write_outcome``.
    """
    points, folders = [], []
    for outcome in outcomes:
        limit = outcome.cost.limits[limited]
        folders.append(scorer.folder / f"max_{limited}-{limit:g}")
        write_outcome(scorer, outcome, folders[-1], judged)
        best = scorer.candidate(outcome.best)
        found = [scorer.candidate(arch).accuracy for arch in outcome.baseline if scorer.is_whole(arch)]
        points.append(
            report.TradeoffPoint(
                limit=limit,
                arch=outcome.best.to_dict(),
                cost=scorer.costs_of([outcome.best], limited)[0],
                macs=best.macs,
                params=best.params,
                latency_ms=best.latency_ms,
                predicted=outcome.predicted.get(outcome.best),
                accuracy=best.accuracy,
                baseline=max(found) if found else None,
                blocks=blocks_of(scorer.costs, outcome.best),
            )
        )
    seen = dict.fromkeys(arch for outcome in outcomes for arch in (*outcome.archs, *outcome.baseline))
    report.write_tradeoff_report(
        scorer.folder / "report.html",
        report.TradeoffReport(
            title=f"{type(scorer.space).__name__} on {scorer.data.name}",
            space=type(scorer.space).__name__,
            data=scorer.data.name,
            strategy=outcomes[0].strategy,
            predictor=outcomes[0].facts.get("predictor", ""),
            cost=limited,  # type: ignore[arg-type]
            points=points,
            scored=[
                (cost, scorer.candidate(arch).accuracy)
                for arch, cost in zip(seen, scorer.costs_of(seen, limited), strict=True)
            ],
            references=references,
            facts=facts(scorer, outcomes[0]) | {"time of this run": f"{sum(o.seconds for o in outcomes):.0f} s"},
            notes=[
                *([] if judged is None else ranking_notes(judged)),
                *outcomes[0].notes,
                *common_notes(scorer),
            ],
            ranking=None if judged is None else ranking_section(judged, scorer, []),
        ),
    )
    return folders


def facts(scorer: Scorer, outcome: Outcome) -> dict[str, str]:
    """What the report says about the conditions of a search."""
    trained = scorer.trained
    known = {
        "space": f"{scorer.space.size:.3g} networks",
        "supernet": f"{trained.folder.name}, step {trained.step} of {trained.total_steps}",
        "held-out images": str(scorer.store.scores[outcome.best].num_images),
        "calibration images": str(len(scorer.evaluator.calibration.images)),
        "input": "x".join(map(str, scorer.space.input_shape(outcome.best))),
        "seed": str(scorer.seed),
        "time of this run": f"{outcome.seconds:.0f} s",
        "torch": str(torch.__version__),
        **outcome.facts,
    }
    if scorer.latency_conditions:
        known["latency" if scorer.cost.latency_table else "latency, last measured"] = scorer.latency_conditions
    return known


def notes(scorer: Scorer, candidates: Sequence[report.Candidate], chosen: report.Candidate) -> list[str]:
    """How far the ranking can be trusted, from the size of the held-out set."""
    images = scorer.evaluator.held_out.images
    error = (max(chosen.accuracy * (1 - chosen.accuracy), 0.25 / len(images)) / len(images)) ** 0.5
    close = sum(candidate.accuracy >= chosen.accuracy - 2 * error for candidate in candidates)
    return [
        f"With {len(images)} held-out images the best accuracy is known to about ±{100 * error:.1f} points (one standard "
        f"error); {close} of {len(candidates)} candidates lie within two of it.",
        *common_notes(scorer),
    ]


def common_notes(scorer: Scorer) -> list[str]:
    """What holds for every accuracy with inherited weights."""
    found = [
        "Accuracies are those of inherited weights with recalibrated BatchNorm statistics: good for ranking, below what "
        "retraining reaches. The best of many candidates is also a little lucky; the test set decides, after retraining."
    ]
    if scorer.evaluation.halving_images is not None:
        whole = sum(map(scorer.is_whole, scorer.store.scores))
        found.append(
            f"Successive halving: of {len(scorer.store.scores):,} candidates {whole:,} were scored on all held-out images, the "
            f"others on {scorer.evaluation.halving_images:,} or more; these rank below, by the images they came to."
        )
    if scorer.trained.step < scorer.trained.total_steps:
        found.append(f"The supernet is not fully trained: step {scorer.trained.step} of {scorer.trained.total_steps}.")
    return found
