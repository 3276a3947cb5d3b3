"""Checks of the numbers that a strategy is made with."""

from __future__ import annotations


def check_count(name: str, value: int, at_least: int = 1, at_most: int | None = None) -> None:
    """Raises ValueError unless ``value`` is a whole number within the bounds."""
    within = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
    if not within or (at_most is not None and value > at_most):
        bounds = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{name} must be a whole number {bounds}, got {value!r}")


def check_probability(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
