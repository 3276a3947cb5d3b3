"""Checks of numbers that a user sets."""

from __future__ import annotations


def check_least(least: int, where: str = "", **values: float | None) -> None:
    """Raises ValueError for the first of the named ``values`` that is below ``least``; None is nothing to check.

    Args:
        where: what stands before the name in the message, such as ``"trainer."``.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{where}{name} is at least {least}, not {value}")


def check_count(least: int, **values: object) -> None:
    """Raises ValueError for the first of the named ``values`` that is no whole number of at least ``least``, whatever its
    type.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_probability(**values: object) -> None:
    """Raises ValueError for the first of the named ``values`` that is not a number from 0 to 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
