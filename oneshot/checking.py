"""Checks of numbers that a user sets."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence


def check_least(least: int, where: str = "", **values: float | None) -> None:
    """Raises ValueError for the first of the named ``values`` that is no finite number of at least ``least``; None is nothing to
    check.

    Args:
        where: what stands before the name in the message, such as ``"trainer."``.
    """
    for name, value in values.items():
        if value is not None and not (value >= least and math.isfinite(value)):
            kind = "" if math.isfinite(value) else "a finite number of "
            raise ValueError(f"{where}{name} is {kind}at least {least}, not {value}")


def check_count(least: int, where: str = "", **values: object) -> None:
    """Raises ValueError for the first of the named ``values`` that is no whole number of at least ``least``, whatever its
    type: for settings whose types nothing else has checked.

    Args:
        where: what stands before the name in the message, such as ``"search."``.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{where}{name} must be a whole number of at least {least}, got {value!r}")


def check_positive(**values: float | Sequence[float]) -> None:
    """Raises ValueError for the first of the named ``values`` that is not above 0, or holds such a number."""
    for name, value in values.items():
        if isinstance(value, Sequence):
            if any(not number > 0 for number in value):
                raise ValueError(f"{name} are positive, not {list(value)}")
        elif not value > 0:
            raise ValueError(f"{name} is positive, not {value}")


def check_probability(where: str = "", **values: object) -> None:
    """Raises ValueError for the first of the named ``values`` that is not a number from 0 to 1; ``where`` is that of
    ``check_count``.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f"{where}{name} must be a number from 0 to 1, got {value!r}")


def told_with_line(error: Exception, file: str | None) -> str:
    """An error in a user's ``file``: the last line there that led to it, its type, and what it says."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {error}"
