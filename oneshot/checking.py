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
