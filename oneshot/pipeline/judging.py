"""How far a ranking by inherited weights agrees with true accuracies, beside counting MACs, parameters, and random order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.evaluation import Estimate, FirstRanked, RankCorrelation, random_order, rank_correlation
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.evidence import COMBINED, Evidence
from oneshot.pipeline.search_settings import RankingSettings
from oneshot.pipeline.truth import Truth
from oneshot.pipeline.witnesses import INHERITED, MACS, PARAMS
from oneshot.runs import write_json

log = logging.getLogger(__name__)
Values = NDArray[np.float64]
RANDOM, PREDICTED = "random order", "predictor"


@dataclass(frozen=True)
class JudgedRanking:
    """A ranking, and what it gets right.

    Attributes:
        truth: the true accuracies.
        num_ranked: networks that were ranked, those without a known truth included.
        known: networks with a known truth.
        ways: ways to rank them, that by which the search ranked first, and what each gets right.
        space_size: networks of the space.
        by_prediction: with a predictor, the ways to rank all networks with a known truth, scored or not, that by the predictor
            first.
    """

    truth: Truth
    num_ranked: int
    known: Sequence[Arch]
    ways: Mapping[str, RankCorrelation]
    space_size: int
    by_prediction: Mapping[str, RankCorrelation] = field(default_factory=dict)


def judge_ranking(
    scores: CandidateScores,
    costs: CostTable,
    truth: Truth,
    settings: RankingSettings,
    predict: Callable[[Sequence[Arch]], Values] | None = None,
    evidence: Evidence | None = None,
) -> JudgedRanking:
    """Judges the ranking of all networks that were scored; writes ``ranking.json`` beside their scores, and logs a table.

    Args:
        predict: the scores that a predictor gives; it is judged as well, on all networks with a known truth too.
        evidence: the witnesses, which are judged as well, each alone and all together.

    Raises:
        ValueError: the truth of fewer than two networks is known.
    """
    known = known_to(truth, scores.known)
    given: dict[str, Values] = {INHERITED: _places(scores, known)}
    by_prediction: dict[str, RankCorrelation] = {}

    def judge(archs: Sequence[Arch], given: Mapping[str, Values]) -> dict[str, RankCorrelation]:
        """What ``given``, MACs, parameters and random order get right about ``archs``."""
        values = [truth.values[arch] for arch in archs]
        ways = {
            name: rank_correlation(way, values, num_resamples=settings.num_resamples, seed=scores.seed)
            for name, way in {**given, **counted(costs, archs)}.items()
        }
        return ways | {RANDOM: random_order(values)}

    if predict is not None:
        given[PREDICTED] = predict(known)
        if len(truth.values) > len(known):
            every = list(truth.values)
            by_prediction = judge(every, {PREDICTED: predict(every)})
    if evidence is not None:
        asked = evidence.ways(known)
        together = {COMBINED: asked.pop(COMBINED)}
        rest = {name: way for name, way in asked.items() if name not in (INHERITED, MACS, PARAMS)}
        given = {**together, **given, **rest} if evidence.decides else {**given, **together, **rest}
    ways = judge(known, given)
    judged = JudgedRanking(truth, len(scores.known), known, ways, scores.space.size, by_prediction)
    keep_judged(judged, scores.settings.metric, settings, scores.store.folder)
    return judged


def known_to(truth: Truth, ranked: Collection[Arch]) -> list[Arch]:
    """Those of ``ranked`` whose truth is known.

    Raises:
        ValueError: they are fewer than two.
    """
    known = [arch for arch in ranked if arch in truth.values]
    if len(known) < 2:
        raise ValueError(
            f"{truth.source} tells the true accuracy of {len(known)} of the {len(ranked)} networks that were scored; a ranking "
            "is judged by at least 2"
        )
    if len({truth.values[arch] for arch in known}) == 1:
        log.warning(
            "all %d networks of which %s tells the true accuracy have the same: no ranking can be judged by them",
            len(known),
            truth.source,
        )
    return known


def counted(costs: CostTable, archs: Sequence[Arch]) -> dict[str, Values]:
    """What counting says of ``archs``: their MACs and parameters."""
    counts = costs.costs(archs)
    return {
        MACS: np.array([cost.macs for cost in counts], dtype=np.float64),
        PARAMS: np.array([cost.params for cost in counts], dtype=np.float64),
    }


def keep_judged(judged: JudgedRanking, metric: str, settings: RankingSettings, folder: Path) -> None:
    """Writes ``ranking.json`` to ``folder``, and logs a table."""
    content = {
        "truth": judged.truth.source,
        "metric": metric,
        "num_ranked": judged.num_ranked,
        "num_known": len(judged.known),
        "num_resamples": settings.num_resamples,
        "ways": {name: asdict(way) for name, way in judged.ways.items()},
    }
    if judged.by_prediction:
        content["by_prediction"] = {name: asdict(way) for name, way in judged.by_prediction.items()}
    write_json(folder / "ranking.json", content)
    for line in table_lines(judged):
        log.info("%s", line)


def _places(scores: CandidateScores, archs: Sequence[Arch]) -> Values:
    """Numbers in the order in which the search ranks ``archs``: by its metric, ties by the other one."""
    keys = [scores.key(scores.known[arch]) for arch in archs]
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    return np.array([order[key] for key in keys], dtype=np.float64)


# In words --------------------------------------------------------------------------------------------------------------


def ranking_section(
    judged: JudgedRanking, candidates: Mapping[Arch, report.Candidate], shown: Sequence[Arch]
) -> report.Ranking:
    """The section of a report that shows the networks ``shown`` anyway; ``candidates`` are all that were scored."""
    own = set(shown)
    others = [arch for arch in judged.known if arch not in own]
    return report.Ranking(
        caption=f"{_known(judged)} Where ranks are tied, figures are expected values over all orders; intervals hold 95 % of "
        "bootstrap resamples, those of random order 95 % of all orders.",
        headings=list(judged.ways),
        rows=_rows(judged.ways),
        truth=[judged.truth.values.get(arch) for arch in shown],
        others=[candidates[arch] for arch in others],
        others_truth=[judged.truth.values[arch] for arch in others],
    )


def ranking_notes(judged: JudgedRanking, kept: Arch | None, is_random: bool) -> list[str]:
    """How far the ranking can be trusted, in words.

    Args:
        kept: the network that the search keeps; None where there are several.
        is_random: whether the networks that were scored are a random sample of those within the limits.
    """
    name = next(iter(judged.ways))
    own = judged.ways[name]
    by = "inherited weights" if name == INHERITED else name
    others = [f"counting {way} {judged.ways[way].tau.value:.2f}" for way in (MACS, PARAMS)]
    if name != INHERITED:
        others.insert(0, f"inherited weights alone {judged.ways[INHERITED].tau.value:.2f}")
    found = [
        f"{_known(judged)} Kendall's tau of the ranking by {by} is {own.tau.value:.2f} ({own.tau.low:.2f} to "
        f"{own.tau.high:.2f}); {_listed(others)}. {first_note(judged, own, kept)}"
    ]
    better = [way for way in (MACS, PARAMS) if judged.ways[way].tau.value >= own.tau.value]
    if better:
        whom = "the supernet does" if name == INHERITED else "all witnesses together"
        found.append(f"Counting {' or '.join(better)} ranks these networks at least as well as {whom}.")
    if PREDICTED in judged.ways:
        every = judged.by_prediction or judged.ways
        predicted, tau = every[PREDICTED], every[PREDICTED].tau
        which = "all" if judged.by_prediction else "these"
        found.append(
            f"The predictor ranks {which} {predicted.num_candidates:,} networks of {judged.truth.source} with a tau of "
            f"{tau.value:.2f} ({tau.low:.2f} to {tau.high:.2f}; counting MACs {every[MACS].tau.value:.2f}). The network it ranks "
            f"first is truly number {predicted.first[1].best_rank:,.0f} of them, "
            f"{100 * predicted.regret:.2f} points below the best."
        )
    if judged.num_ranked < judged.space_size and not is_random:
        found.append(
            "The networks that a search scores are no random sample of the space, so these figures are not those of the "
            "whole space."
        )
    return found


def first_note(judged: JudgedRanking, way: RankCorrelation, kept: Arch | None) -> str:
    """The true rank of the network that a ``way`` to rank puts first, and of the one that is ``kept`` where that may differ."""
    values = np.array([judged.truth.values[arch] for arch in judged.known])
    rank = way.first[1].best_rank
    found = f"The network ranked first is truly number {rank:,.0f} of these {len(values):,}, "
    found += f"{100 * way.regret:.2f} points below the best"
    if kept is None:
        return f"{found}."
    if kept not in judged.truth.values:
        return f"{found}; the true accuracy of the one that is kept is not known."
    own = judged.truth.values[kept]
    place = 1 + int((values > own).sum())
    if place == rank:
        return f"{found}."
    return f"{found}; the one that is kept is number {place:,}, {100 * (values.max() - own):.2f} points below."


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _known(judged: JudgedRanking) -> str:
    part = f"all {judged.num_ranked:,}"
    if len(judged.known) < judged.num_ranked:
        part = f"{len(judged.known):,} of the {judged.num_ranked:,}"
    return f"The true accuracy of {part} networks that were scored is known from {judged.truth.source}."


def _rows(judged: Mapping[str, RankCorrelation]) -> list[report.RankingRow]:
    ways = list(judged.values())
    count = ways[0].num_candidates

    def row(name: str, cell: Callable[[RankCorrelation], tuple[str, str]]) -> report.RankingRow:
        return report.RankingRow(name, [cell(way) for way in ways])

    rows = [row("Kendall's tau", lambda way: _estimate(way.tau))]
    rows.append(row("Spearman's rho", lambda way: _estimate(way.spearman)))
    if ways[0].top_tau is not None:
        rows.append(row("tau among the truly best 10 %", lambda way: (_signed(way.top_tau or 0.0), "")))
    for share in ways[0].precision:
        number = round(share * count)
        if number == 0:
            continue
        name = f"truly best {100 * share:g} % among the first {100 * share:g} % ({number:,})"
        rows.append(row(name, lambda way, share=share: (f"{100 * way.precision[share]:.1f} %", "")))  # type: ignore[misc]
    for number in ways[0].first:
        if number == 1:
            rows.append(row("true accuracy of the first", lambda way: _best(way.first[1])))
            continue
        rows.append(row(f"best of the first {number}", lambda way, n=number: _best(way.first[n])))  # type: ignore[misc]
        mean = f"mean of the first {number}"
        rows.append(row(mean, lambda way, n=number: (f"{100 * way.first[n].mean:.2f} %", "")))  # type: ignore[misc]
    rows.append(row("lost by taking the first", lambda way: (f"{100 * way.regret:.2f} points", "")))
    return rows


def _estimate(estimate: Estimate) -> tuple[str, str]:
    return _signed(estimate.value), f"{_signed(estimate.low)} to {_signed(estimate.high)}"


def _signed(value: float) -> str:
    """Two decimals, and no sign where both are 0."""
    return f"{round(value, 2) + 0.0:.2f}"


def _best(first: FirstRanked) -> tuple[str, str]:
    return f"{100 * first.best:.2f} %", f"rank {first.best_rank:,.0f}"


def table_lines(judged: JudgedRanking) -> list[str]:
    """The tables for a terminal."""
    lines = [_known(judged), *_table(judged.ways)]
    if judged.by_prediction:
        count = judged.by_prediction[PREDICTED].num_candidates
        lines += [f"All {count:,} networks of {judged.truth.source}:", *_table(judged.by_prediction)]
    return lines


def _table(ways: Mapping[str, RankCorrelation]) -> list[str]:
    table = [["", *ways]]
    for row in _rows(ways):
        table.append([row.name, *(f"{text} ({detail})" if detail else text for text, detail in row.cells)])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in table]
