"""Numbers as a reader wants them: three digits, a unit, and a space that does not break."""

import math

from oneshot.report.model import Cost, Metric

SPACE = "\u00a0"
_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
COST_UNITS: dict[Cost, str] = {"macs": "MACs", "params": "params", "latency_ms": "ms"}
COST_HEADINGS: dict[Cost, str] = {"macs": "MACs", "params": "Params", "latency_ms": "Latency"}
COST_AXES: dict[Cost, str] = {
    "macs": "multiply-accumulates (MACs)",
    "params": "parameters",
    "latency_ms": "latency (ms)",
}


def format_count(value: float) -> str:
    """``value`` to three significant digits with its suffix: 5912345 is "5.91 M", 812 is "812"."""
    for scale, suffix in _SUFFIXES:
        # 999,600 would print as "1000 k": what rounds up to the next suffix belongs to it.
        if abs(value) >= scale * 0.9995:
            return f"{_three_digits(value / scale)}{SPACE}{suffix}"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def format_cost(cost: Cost, value: float | None) -> str:
    """A cost with its unit: "5.91 M MACs", "4.20 M params", "12.3 ms"; "not measured" for None."""
    if value is None or not math.isfinite(value):
        return "not measured"
    number = _three_digits(value) if cost == "latency_ms" else format_count(value)
    return f"{number}{SPACE}{COST_UNITS[cost]}"


def format_short_cost(cost: Cost, value: float | None) -> str:
    """A cost under a heading or on an axis that says what is counted: "5.91 M"; a latency keeps its unit."""
    return format_cost(cost, value) if value is None or cost == "latency_ms" else format_count(value)


def format_tick(value: float, step: float, high: float, *, suffix: bool) -> str:
    """The text of an axis tick: the decimals of ``step`` and, if asked for, the suffix that suits ``high``."""
    scale, letter = next((pair for pair in _SUFFIXES if suffix and high >= pair[0]), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return f"{value / scale:.{decimals}f}" + (f"{SPACE}{letter}" if letter and value else "")


def format_metric(metric: Metric, value: float) -> str:
    """An accuracy as a percentage with two decimals, or a loss with four."""
    if not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.2f}{SPACE}%" if metric == "accuracy" else f"{value:.4f}"


def format_share(part: float, whole: float) -> str:
    """``part`` of ``whole`` as a percentage; a part that would print as zero but is not is "<0.1 %"."""
    share = 100 * part / whole if whole > 0 else 0.0
    if share == 0:
        return f"0{SPACE}%"
    if share < 0.05:
        return f"<0.1{SPACE}%"
    return f"{share:.1f}{SPACE}%" if share < 99.95 else f"100{SPACE}%"


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    if magnitude >= 99.95:
        return f"{value:.0f}"
    if magnitude >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if magnitude >= 0.9995 or magnitude == 0 else f"{value:.3g}"
