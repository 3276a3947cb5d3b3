"""The page of one search: what it found, how it compares to random search, and the network it chose."""

import math
from pathlib import Path

from oneshot.report.diagram import DIAGRAM_CAPTION, render_diagram
from oneshot.report.graph import GRAPH_CAPTION, check_graph, render_graphs
from oneshot.report.model import Candidate, SearchReport
from oneshot.report.original import speed_notes
from oneshot.report.page import render_header, render_page, render_trust
from oneshot.report.payload import has_combined, search_payload, sorted_front
from oneshot.report.ranking_section import check_ranking, render_ranking
from oneshot.report.selection import check_accuracy, cost_of
from oneshot.report.tables import render_candidate_table, top_candidates
from oneshot.report.verdict import format_limit, render_tiles, render_verdict
from oneshot.report.witness_section import check_witnesses, render_witnesses
from oneshot.runs import write_text

_SCRIPTS = ("draw.js", "card.js", "candidates.js", "scatter.js", "progress.js", "ranking.js", "tables.js", "search.js")
_NUM_TOP = 10


def write_search_report(path: Path, report: SearchReport) -> None:
    """Writes one self-contained HTML file; the file appears whole or not at all.

    Raises:
        ValueError: no candidates, an index outside them, an accuracy that is not a fraction, a first cost that the
            best candidate does not have, a graph that cannot be drawn, or a ranking or witnesses with other
            numbers of cells or true accuracies than they should have.
    """
    _check(report)
    body = "\n".join(
        [
            _header(report),
            _charts(report),
            "" if report.ranking is None else render_ranking(report.ranking, with_chart=True),
            "" if report.witnesses is None else render_witnesses(report.witnesses),
            _network(report),
            _graphs(report),
            _tables(report),
            _trust(report),
        ]
    )
    page = render_page(title=report.title, body=body, scripts=_SCRIPTS, data=search_payload(report))
    write_text(path, page)


def _check(report: SearchReport) -> None:
    count = len(report.candidates)
    if not count:
        raise ValueError("a search report needs at least one candidate, not 0")
    for name, index in [("best", report.best), *(("front", index) for index in report.front)]:
        if not 0 <= index < count:
            raise ValueError(f"{name} holds {index}, but there are {count} candidates: allowed are 0 to {count - 1}")
    if report.found is not None and not (0 <= report.found < count - 1 == report.best):
        raise ValueError(
            f"best is {report.best} where found is {report.found}: the last of {count} candidates is kept then"
        )
    for graph in report.graphs:
        check_graph(graph)
    if report.ranking is not None:
        check_ranking(report.ranking, count + len(report.baseline))
    if report.witnesses is not None:
        check_witnesses(report.witnesses)
    if report.rival is not None and not 0 <= report.rival < len(report.baseline):
        raise ValueError(f"rival is {report.rival}, but the baseline holds {len(report.baseline)} candidates")
    for candidate in (*report.candidates, *report.baseline, *_original(report)):
        if math.isfinite(candidate.accuracy):
            check_accuracy(candidate.accuracy)
    if cost_of(report.candidates[report.best], report.cost) is None:
        raise ValueError(f"cost is {report.cost!r}, but the best candidate has none; allowed are 'macs' and 'params'")


def _original(report: SearchReport) -> list[Candidate]:
    return [] if report.original is None else [report.original]


def _header(report: SearchReport) -> str:
    about = {"space": report.space, "data": report.data, "strategy": report.strategy}
    return render_header(report.title, about, render_verdict(report), render_tiles(report))


def _charts(report: SearchReport) -> str:
    return """<section>
<div class="head"><h2>Accuracy and cost</h2><div id="scatter-controls" class="controls"></div></div>
<div id="scatter-legend" class="legend"></div>
<div id="scatter" class="chart"></div>
<p id="scatter-note" class="caption"></p>
</section>
<section>
<div class="head"><h2>Search progress</h2></div>
<div id="progress-legend" class="legend"></div>
<div id="progress" class="chart"></div>
<p id="progress-note" class="caption"></p>
</section>"""


def _network(report: SearchReport) -> str:
    if not report.blocks:
        return ""
    return f"""<section>
<div class="head"><h2>The chosen network</h2></div>
{render_diagram(report.blocks)}
<p class="caption">{DIAGRAM_CAPTION}</p>
</section>"""


def _graphs(report: SearchReport) -> str:
    if not report.graphs:
        return ""
    return f"""<section>
<div class="head"><h2>{"The chosen graph" if len(report.graphs) == 1 else "The chosen cells"}</h2></div>
{render_graphs(report.graphs)}
<p class="caption">{GRAPH_CAPTION}</p>
</section>"""


def _tables(report: SearchReport) -> str:
    front = render_candidate_table(report, sorted_front(report))
    top = render_candidate_table(report, top_candidates(report, _NUM_TOP))
    front_size = f"{len(report.front)} candidate{'' if len(report.front) == 1 else 's'}"
    by = "by what all witnesses together give" if has_combined(report) else f"by {report.metric}"
    front_by = f" {by} and cost; the chart has the front of its own axes" if has_combined(report) else ""
    hint = "Click a heading to sort, a row to find its point in the chart."
    return f"""<section>
<div class="head"><h2>Pareto front</h2><span class="hint">{front_size}{front_by}. {hint}</span></div>
{front}
</section>
<section>
<div class="head"><h2>Top {min(_NUM_TOP, len(report.candidates))}</h2><span class="hint">{by}</span></div>
{top}
</section>"""


def _trust(report: SearchReport) -> str:
    limits = [format_limit(name, value) for name, value in report.limits.items() if math.isfinite(value)]
    slow = [] if report.original is None else speed_notes(report.original, [report.candidates[report.best]])
    return render_trust([*slow, *report.notes], {**({"limits": ", ".join(limits)} if limits else {}), **report.facts})
