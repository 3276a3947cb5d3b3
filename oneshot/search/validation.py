"""Checks of the numbers that a strategy is made with."""

from __future__ import annotations


def check_count(name: str, value: int, at_least: int = 1) -> None:
    """Raises ValueError unless ``value`` is a whole number of ``at_least`` so much."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")


def check_probability(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
