"""Long curves made short enough to draw: spikes survive, and noise gets a running mean beside it."""

import math
from collections.abc import Sequence
from itertools import pairwise

from oneshot.report.model import Curve

_MOST_POINTS = 1200
_WINDOWS = 30
_FEWEST_FOR_TREND = 60


def thin(values: Sequence[float], most: int = _MOST_POINTS) -> list[int]:
    """The positions to draw, in order: all of them, or the lowest and the highest of every bucket.

    The first and the last are always kept; a bucket with nothing finite keeps its first.
    """
    if len(values) <= most:
        return list(range(len(values)))
    num_buckets = max(1, (most - 2) // 2)
    kept = {0, len(values) - 1}
    for bucket in range(num_buckets):
        members = range(bucket * len(values) // num_buckets, (bucket + 1) * len(values) // num_buckets)
        finite = [i for i in members if math.isfinite(values[i])]
        if finite:
            kept |= {min(finite, key=lambda i: values[i]), max(finite, key=lambda i: values[i])}
        else:
            kept.add(members[0])
    return sorted(kept)


def running_mean(values: Sequence[float]) -> list[float | None]:
    """The mean of the finite values in a centred window of a thirtieth of the curve; None for an empty one."""
    half = max(2, len(values) // _WINDOWS) // 2
    sums, counts = [0.0], [0]
    for value in values:
        finite = math.isfinite(value)
        sums.append(sums[-1] + (value if finite else 0.0))
        counts.append(counts[-1] + finite)
    means: list[float | None] = []
    for i in range(len(values)):
        # Near an end the window shrinks on both sides, for a one-sided one bends the curve; but not to nothing.
        reach = max(min(half, i, len(values) - 1 - i), half // 3)
        low, high = max(0, i - reach), min(len(values), i + reach + 1)
        number = counts[high] - counts[low]
        means.append((sums[high] - sums[low]) / number if number else None)
    return means


def is_noisy(values: Sequence[float]) -> bool:
    """Whether a curve turns so often that the eye needs a running mean to follow it."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < _FEWEST_FOR_TREND:
        return False
    travelled = sum(abs(after - before) for before, after in pairwise(finite))
    return travelled > 8 * (max(finite) - min(finite))


def curve_payload(curve: Curve) -> dict[str, object]:
    """The JSON data of one curve. Raises ValueError where steps and values differ in length."""
    if len(curve.steps) != len(curve.values):
        raise ValueError(f"curve {curve.name!r} has {len(curve.steps)} steps but {len(curve.values)} values")
    order = sorted(range(len(curve.steps)), key=lambda i: curve.steps[i])
    values = [float(curve.values[i]) for i in order]
    kept = thin(values)
    trend = running_mean(values) if is_noisy(values) else None
    return {
        "name": curve.name,
        "steps": [curve.steps[order[i]] for i in kept],
        "values": [values[i] if math.isfinite(values[i]) else None for i in kept],
        "trend": None if trend is None else [trend[i] for i in kept],
        "lost": sum(not math.isfinite(value) for value in values),
    }
