"""Axes of a chart drawn without a script: what they span, where a value stands, and round ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` on the pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, apart: float) -> tuple[list[float], float]:
        """The ticks, at 1, 2 or 5 times a power of ten and about ``apart`` pixels apart, and their step."""
        raw = (self.high - self.low) / max(1.0, abs(self.end - self.start) / apart)
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next((nice for nice, most in ((1, 1.5), (2, 3.5), (5, 7.5)) if raw / power < most), 10)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)], step


def padded(values: Sequence[float], *, air: float, ceiling: float = math.inf) -> tuple[float, float]:
    """The span of the values with a share ``air`` around it, inside 0 to ``ceiling``; equal values get some too."""
    low, high = min(values), max(values)
    least = 1e-6 * max(abs(low), abs(high))
    room = air * (high - low) if high - low > least else 0.05 * abs(high)
    if room < 1e-12:  # zeros, or so small that ticks between them have no numbers
        room = 1.0
    return max(min(low, 0.0), low - room), min(max(high, ceiling), high + room)


def without_outliers(values: Sequence[float]) -> float:
    """The lowest of the values that is not far below the rest, for a view in which the rest is not one blob."""
    ordered = sorted(values)
    near, far = (ordered[round(part * (len(ordered) - 1))] for part in (0.05, 0.95))
    return next(value for value in ordered if value >= near - 1.2 * (far - near))
