"""The section about how well a ranking agrees with true accuracies."""

from oneshot.report.model import Ranking
from oneshot.report.page import escape
from oneshot.report.selection import check_accuracy


def check_ranking(ranking: Ranking, num_shown: int | None) -> None:
    """Raises ValueError unless rows have a cell for each heading and there is a true accuracy, or None, for each network.

    ``num_shown`` is the number of candidates and baseline of the page, None where these are not looked at.
    """
    for row in ranking.rows:
        if len(row.cells) != len(ranking.headings):
            raise ValueError(f"the row {row.name!r} has {len(row.cells)} cells for {len(ranking.headings)} headings")
    if num_shown is not None and len(ranking.truth) != num_shown:
        raise ValueError(f"there are {len(ranking.truth)} true accuracies for {num_shown} candidates")
    if len(ranking.others) != len(ranking.others_truth):
        raise ValueError(f"there are {len(ranking.others_truth)} true accuracies for {len(ranking.others)} others")
    for value in (*ranking.truth, *ranking.others_truth):
        if value is not None:
            check_accuracy(value)


def render_ranking(ranking: Ranking, *, with_chart: bool) -> str:
    """The section: its table, and below it the place where a script of the page draws the chart."""
    headings = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in ranking.headings)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row.name)}</th>{"".join(_cell(*cell) for cell in row.cells)}</tr>'
        for row in ranking.rows
    )
    chart = """
<div id="ranking-legend" class="legend"></div>
<div id="ranking" class="chart"></div>
<p id="ranking-note" class="caption"></p>"""
    return f"""<section>
<div class="head"><h2>Ranking and truth</h2></div>
<div class="scroll whole"><table class="figures">
<thead><tr><th></th>{headings}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
<p class="caption">{escape(ranking.caption)}</p>{chart if with_chart else ""}
</section>"""


def _cell(text: str, detail: str) -> str:
    small = f" <small>{escape(detail)}</small>" if detail else ""
    return f'<td class="number">{escape(text)}{small}</td>'
