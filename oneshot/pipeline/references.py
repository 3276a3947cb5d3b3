"""Networks known from elsewhere, to compare those of a search with."""

from __future__ import annotations

import math
from pathlib import Path

from oneshot.reading import read_json, short
from oneshot.report import Reference


def read_references(path: Path, limited: str) -> list[Reference]:
    """Known networks from a JSON list of objects with ``name``, ``accuracy`` (a fraction) and costs such as ``latency_ms``; those
    without the cost ``limited`` are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or no network with that cost.
    """
    entries = read_json(path, "file of references")
    try:
        found = [
            Reference(str(entry["name"]), float(entry[limited]), float(entry["accuracy"]))
            for entry in entries
            if limited in entry
        ]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        reason = f"{type(error).__name__}: {short(str(error))}"
        raise ValueError(f"{path} is not a JSON list of objects with name, accuracy and {limited}: {reason}") from None
    for reference in found:
        if not (math.isfinite(reference.accuracy) and math.isfinite(reference.cost)):
            raise ValueError(f"{path}: the accuracy and the {limited} of {short(reference.name)} are numbers")
    if not found:
        raise ValueError(f"{path} holds no network with {limited}")
    return found
