"""The section about how far several witnesses of the quality of networks agree."""

from oneshot.report.model import Witnesses
from oneshot.report.page import escape

_ABSENT = "\u2013"


def check_witnesses(witnesses: Witnesses) -> None:
    """Raises ValueError unless there is a correlation from -1 to 1 for each two of them."""
    count = len(witnesses.rows)
    if [len(line) for line in witnesses.correlations] != [count] * count:
        raise ValueError(f"correlations of {count} witnesses are {count} lists of {count} numbers")
    for value in (value for line in witnesses.correlations for value in line):
        if not -1 - 1e-9 <= value <= 1 + 1e-9:
            raise ValueError(f"a correlation lies between -1 and 1, not at {value}")


def render_witnesses(witnesses: Witnesses) -> str:
    """The section: a row for each witness, with its correlations as shaded cells."""
    weighted = any(row.weight is not None for row in witnesses.rows)
    names = ["Reliability", "Agreement", *(["Weight"] if weighted else [])]
    numbers = range(1, len(witnesses.rows) + 1)
    headings = "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    headings += "".join(
        f'<th scope="col" class="number" title="{escape(row.name)}">{number}</th>'
        for number, row in zip(numbers, witnesses.rows, strict=True)
    )
    lines = []
    for number, row, correlations in zip(numbers, witnesses.rows, witnesses.correlations, strict=True):
        cells = [_number(row.reliability), _number(row.agreement), *([_weight(row.weight)] if weighted else [])]
        shades = (_shade(value, other == number) for other, value in zip(numbers, correlations, strict=True))
        lines.append(
            f'<tr><th scope="row">{number} {escape(row.name)} <small>{escape(row.family)}</small></th>{"".join(cells)}'
            f"{''.join(shades)}</tr>"
        )
    rows = "\n".join(lines)
    return f"""<section>
<div class="head"><h2>Do the witnesses agree?</h2></div>
<div class="scroll whole"><table class="figures witnesses">
<thead><tr><th></th>{headings}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
<p class="caption">{escape(witnesses.caption)}</p>
</section>"""


def _number(value: float | None) -> str:
    return f'<td class="number">{_ABSENT if value is None else f"{round(value, 2) + 0.0:.2f}"}</td>'


def _weight(value: float | None) -> str:
    if value is None:
        return f'<td class="number">{_ABSENT}</td>'
    return f'<td class="number"><span class="weight" style="width:{40 * value:.1f}px"></span> {100 * value:.0f} %</td>'


def _shade(value: float, own: bool) -> str:
    if own:
        return '<td class="number shade"></td>'
    kind = "with" if value >= 0 else "against"
    return (
        f'<td class="number shade {kind}" style="--strength:{100 * min(1.0, abs(value)):.0f}%">'
        f"{round(value, 2) + 0.0:.2f}</td>"
    )
