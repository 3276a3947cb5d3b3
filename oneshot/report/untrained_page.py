"""The page of a search by scores of untrained networks: what it found under each limit, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneshot.report.diagram import DIAGRAM_CAPTION, render_diagram
from oneshot.report.graph import GRAPH_CAPTION, check_graph, render_graphs
from oneshot.report.model import Block, Graph, Ranking, Value, Witnesses
from oneshot.report.naming import format_architecture
from oneshot.report.page import escape, render_header, render_page, render_trust
from oneshot.report.ranking_section import check_ranking, render_ranking
from oneshot.report.units import COST_HEADINGS, format_cost, format_short_cost
from oneshot.report.verdict import format_limit
from oneshot.report.witness_section import check_witnesses, render_witnesses
from oneshot.runs import write_text


@dataclass(frozen=True)
class ScoredNetwork:
    """A network that nobody has trained: ``value`` is what ranks, higher is better, ``scores`` are all that were asked for by
    name.
    """

    arch: Mapping[str, Value]
    value: float
    scores: Mapping[str, float]
    macs: int
    params: int
    latency_ms: float | None


@dataclass(frozen=True)
class UntrainedSearch:
    """What was found under one set of limits, named ``max_`` and a cost: the network that is kept, how many networks the strategy
    evaluated, the best of random search at equal budget (None where there was none), the first of the ranking of both, how the
    best is built, and ``found``, the strategy's own best where another network is kept.
    """

    limits: Mapping[str, float]
    best: ScoredNetwork
    num_candidates: int
    baseline: ScoredNetwork | None
    top: Sequence[ScoredNetwork]
    blocks: Sequence[Block]
    graphs: Sequence[Graph] = ()
    found: ScoredNetwork | None = None

    @property
    def own_best(self) -> ScoredNetwork:
        """The best of what the strategy evaluated."""
        return self.best if self.found is None else self.found


@dataclass(frozen=True)
class UntrainedReport:
    """Everything the page shows. ``score`` is what ranks; ``notes`` are the sentences under "how far to trust this"; ``ranking``
    is None where no true accuracies are known, and only its table is shown; ``witnesses`` where none were compared.
    """

    title: str
    space: str
    data: str
    strategy: str
    score: str
    searches: Sequence[UntrainedSearch]
    facts: Mapping[str, str]
    notes: Sequence[str]
    ranking: Ranking | None = None
    witnesses: Witnesses | None = None


def write_untrained_report(path: Path, report: UntrainedReport) -> None:
    """Writes one self-contained HTML file without a script; the file appears whole or not at all.

    Raises:
        ValueError: no search, one without networks, or a graph or ranking that cannot be drawn.
    """
    if not report.searches or not all(search.top for search in report.searches):
        raise ValueError("a report needs at least one search with at least one network")
    for search in report.searches:
        for graph in search.graphs:
            check_graph(graph)
    if report.ranking is not None:
        check_ranking(report.ranking, None)
    if report.witnesses is not None:
        check_witnesses(report.witnesses)
    about = {"space": report.space, "data": report.data, "strategy": report.strategy, "score": report.score}
    body = [render_header(report.title, about, _verdict(report))]
    body += [_section(report, search) for search in report.searches]
    if report.ranking is not None:
        body.append(render_ranking(report.ranking, with_chart=False))
    if report.witnesses is not None:
        body.append(render_witnesses(report.witnesses))
    body.append(render_trust(report.notes, report.facts))
    write_text(path, render_page(title=report.title, body="\n".join(body)))


def _verdict(report: UntrainedReport) -> str:
    first, last = report.searches[0], report.searches[-1]
    tried = f"{sum(search.num_candidates for search in report.searches):,} evaluations"
    found = f"{escape(report.strategy)} found <strong>{_result(report, first.own_best)}</strong>"
    if len(report.searches) > 1:
        found += f" to <strong>{_result(report, last.own_best)}</strong> under {len(report.searches)} sets of limits"
    told = [search for search in report.searches if search.baseline is not None]
    if not told:
        return f"{found} in {tried}."
    won = sum(search.own_best.value > search.baseline.value for search in told if search.baseline is not None)
    rival = told[0].baseline
    if len(told) == 1 and rival is not None:
        reached = f"{found} in {tried}; random search with as many reached {_number(rival.value)}"
        return f"{reached}." if told[0].found is None else f"{reached}; that network is kept."
    return f"{found} in {tried}; random search with as many reached less under {won} of them."


def _result(report: UntrainedReport, network: ScoredNetwork) -> str:
    return f"{escape(report.score)} {_number(network.value)} at {format_cost('macs', network.macs)}"


def _section(report: UntrainedReport, search: UntrainedSearch) -> str:
    limits = ", ".join(format_limit(name, value) for name, value in search.limits.items() if math.isfinite(value))
    heading = f"The first of the ranking{', ' + limits if limits else ''}"
    parts = [f'<section>\n<div class="head"><h2>{escape(heading)}</h2></div>\n{_table(search)}\n</section>']
    if search.blocks:
        parts.append(
            f'<section>\n<div class="head"><h2>The chosen network</h2></div>\n{render_diagram(search.blocks)}\n'
            f'<p class="caption">{DIAGRAM_CAPTION}</p>\n</section>'
        )
    if search.graphs:
        parts.append(
            f'<section>\n<div class="head"><h2>The chosen cells</h2></div>\n{render_graphs(search.graphs)}\n'
            f'<p class="caption">{GRAPH_CAPTION}</p>\n</section>'
        )
    return "\n".join(parts)


def _table(search: UntrainedSearch) -> str:
    names = list(search.top[0].scores)
    timed = any(network.latency_ms is not None for network in search.top)
    headings = ["Rank", *names, COST_HEADINGS["macs"], COST_HEADINGS["params"]]
    headings += [COST_HEADINGS["latency_ms"]] if timed else []
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in headings)
    rows = []
    for rank, network in enumerate(search.top, 1):
        cells = [str(rank), *(_number(network.scores[name]) for name in names)]
        cells += [format_short_cost("macs", network.macs), format_short_cost("params", network.params)]
        cells += [format_short_cost("latency_ms", network.latency_ms)] if timed else []
        numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
        tag = '<span class="tag best">best</span> ' if network.arch == search.best.arch else ""
        rows.append(f'<tr>{numbers}<td class="architecture">{tag}{escape(format_architecture(network.arch))}</td></tr>')
    body = "\n".join(rows)
    return f"""<div class="scroll"><table>
<thead><tr>{head}<th scope="col">Architecture</th></tr></thead>
<tbody>
{body}
</tbody></table></div>"""


def _number(value: float) -> str:
    """Five digits, since scores of good networks lie close together."""
    return f"{value:,.5g}" if math.isfinite(value) else "not finite"
