"""Upper bounds on costs: their validation, and what a user reads where they cannot be met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

_UNITS = {"macs": "MACs", "params": "parameters", "latency_ms": "ms"}
_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))

Range = tuple[float, float]


def check_limits(limits: Mapping[str, float]) -> None:
    """Raises ValueError unless every limit is a positive number."""
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0:
            raise ValueError(f"max_{name} must be a positive number, got {limit!r}")


def explain_limits(limits: Mapping[str, float], reach: Mapping[str, Range], written: Mapping[str, str]) -> str:
    """One line: which limits no architecture meets, or that none meets them together, and what the space can reach.

    Args:
        written: how limits were written that were not written as numbers.
    """
    unmet = [name for name, limit in limits.items() if not reach[name][0] <= limit]
    named = unmet or list(limits)
    together = "" if unmet else " together"
    bounds = in_words({name: limits[name] for name in named}, written)
    ranges = _and([format_range(name, *reach[name]) for name in named])
    return f"{bounds} cannot be met{together}: networks of this space have {ranges}"


def in_words(limits: Mapping[str, float], written: Mapping[str, str]) -> str:
    """``"max_macs=50% (1.235M) and max_params=1e5"``."""
    return _and([describe_limit(name, limit, written.get(name)) for name, limit in limits.items()])


def describe_limit(name: str, limit: float, written: str | None = None) -> str:
    """``"max_macs=1e5"`` or, of a limit that was written otherwise than as a number, ``"max_macs=50% (1.235M)"``."""
    return f"max_{name}={_as_typed(limit)}" if written is None else f"max_{name}={written} ({_human(limit, round)})"


def format_range(name: str, low: float, high: float) -> str:
    """``"3.115M to 22.36M MACs"``: the lower end rounded up, so that it can be met."""
    unit = _UNITS.get(name, name)
    smallest, largest = _human(low, math.ceil), _human(high, round)
    return f"{smallest} {unit}" if high <= low or smallest == largest else f"{smallest} to {largest} {unit}"


def _human(value: float, whole: Callable[[float], int]) -> str:
    """Four significant digits, as in the log, with a suffix, made whole in the last digit by ``whole``."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    # Costs are sums of floats: 3.1 may be 31.000000000000004 tenths.
    value = whole(round(value / step, 6)) * step
    scale, suffix = next(((scale, suffix) for scale, suffix in _SUFFIXES if abs(value) >= 0.99995 * scale), (1.0, ""))
    return f"{value / scale:.4g}{suffix}"


def _as_typed(limit: float) -> str:
    """As on a command line: 100000 is "1e5", 5912345 is "5.912345e6", 3.5 is "3.5"."""
    if limit < 1e4 or not math.isfinite(limit):
        return f"{limit:g}"
    digits, exponent = f"{limit:.9e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
