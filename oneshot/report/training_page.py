"""The page of one training run: a line chart for every group of curves, and the sampling policy as a heat map."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from oneshot.report.curves import curve_payload
from oneshot.report.graph import GRAPH_CAPTION, render_graphs
from oneshot.report.model import Curve, Graph, PolicyHistory
from oneshot.report.page import escape, render_facts, render_page
from oneshot.report.policy import PolicyMap
from oneshot.runs import write_text

_SCRIPTS = ("draw.js", "card.js", "lines.js")


def write_training_report(
    path: Path,
    *,
    title: str,
    groups: Mapping[str, Sequence[Curve]],
    facts: Mapping[str, str],
    policy: PolicyHistory | None = None,
    graphs: Sequence[Graph] = (),
    phases: Sequence[tuple[int, str]] = (),
) -> None:
    """Writes one self-contained HTML file with a chart for each group; the file appears whole or not at all.

    A group whose name contains "accuracy" is shown in percent when its values are fractions. A noisy curve is
    drawn faintly under its running mean. ``policy`` is shown as a heat map below the charts, every choice a band of
    one row an option, thinned out where there are many steps. ``graphs`` are the cells that were derived. ``phases`` are marked
    in the charts where there are several: the step after which each begins, and its name.

    Raises:
        ValueError: a curve or a row of the policy that differs in length from its steps, or a probability that is
            neither NaN nor from 0 to 1.
    """
    policy_map = PolicyMap(policy) if policy else None
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
</div>{policy_map.render() if policy_map else ""}
{_cells(graphs) if graphs else ""}
{f'<section><div class="head"><h2>Facts</h2></div>{about}</section>' if about else ""}"""
    data: dict[str, object] = {"groups": payload, "phases": phases if len(phases) > 1 else []}
    scripts = [*_SCRIPTS]
    if policy_map:
        data["policy"] = policy_map.payload()
        scripts.append("policy.js")
    write_text(path, render_page(title=title, body=body, scripts=scripts, data=data))


def _cells(graphs: Sequence[Graph]) -> str:
    return f"""<section><div class="head"><h2>What is derived</h2></div>
{render_graphs(graphs)}
<p class="caption">{GRAPH_CAPTION}</p></section>"""
