"""The page of one training run: a line chart for every group of curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from oneshot.report.curves import curve_payload
from oneshot.report.model import Curve
from oneshot.report.page import escape, render_facts, render_page, write_atomically

_SCRIPTS = ("draw.js", "card.js", "lines.js")


def write_training_report(
    path: Path, *, title: str, groups: Mapping[str, Sequence[Curve]], facts: Mapping[str, str]
) -> None:
    """Write one self-contained HTML file with a chart for each group; the file appears whole or not at all.

    A group whose name contains "accuracy" is shown in percent when its values are fractions. A noisy curve is
    drawn faintly under its running mean. Raises ValueError where a curve's steps and values differ in length.
    """
    payload = [{"name": name, "curves": [curve_payload(curve) for curve in curves]} for name, curves in groups.items()]
    about = render_facts(facts)
    charts = "\n".join(
        f"""<section>
<div class="head"><h2>{escape(name)}</h2></div>
<div id="lines-legend-{number}" class="legend"></div>
<div id="lines-{number}" class="chart"></div>
<p id="lines-note-{number}" class="caption"></p>
</section>"""
        for number, name in enumerate(groups)
    )
    body = f"""<header><h1>{escape(title)}</h1></header>
<div class="charts">
{charts or '<p class="caption">Nothing was recorded.</p>'}
</div>
{f'<section><div class="head"><h2>Facts</h2></div>{about}</section>' if about else ""}"""
    write_atomically(path, render_page(title=title, body=body, scripts=_SCRIPTS, data={"groups": payload}))
