"""True accuracies of architectures, to judge a ranking by: read from the table of a benchmark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from oneshot.arch import Arch
from oneshot.reading import read_json, short
from oneshot.spaces.base import SearchSpace

_NAMES = ("accuracy", "mean_acc", "test_accuracy", "test_acc")  # of the accuracy, where an entry holds more than that


@dataclass(frozen=True)
class Truth:
    """What networks reach when each of them is trained alone.

    Args:
        source: where that is known from, for reports.
        values: fractions.
        held_out: what the same networks reach on the held-out images, where they were trained here: what may be learned from.
    """

    source: str
    values: Mapping[Arch, float]
    held_out: Mapping[Arch, float] = field(default_factory=dict)


def read_truth(path: Path, space: SearchSpace) -> Truth:
    """True accuracies from a JSON object of architectures and accuracies.

    Architectures are written as ``SearchSpace.parse`` reads them. An accuracy is a number or, in an object such as those of
    NAS-Bench-Macro's table, called ``accuracy``, ``mean_acc``, ``test_accuracy`` or ``test_acc``; several in a list stand for
    their mean, as do several entries of one network. Where any is above 1, all are percent. Entries outside a restricted space
    are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or no network of the space.
    """
    entries = read_json(path, "table of true accuracies")
    if not isinstance(entries, dict) or not entries:
        raise ValueError(
            f"{path} is no table of true accuracies: a JSON object of architectures and accuracies is expected"
        )
    whole = space.whole()
    found: dict[Arch, list[float]] = {}
    try:
        accuracies = {key: _accuracy(key, entry) for key, entry in entries.items()}
        for key, accuracy in accuracies.items():
            arch = _parse(key, space, whole)
            if arch is not None:
                found.setdefault(arch, []).append(accuracy)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not found:
        raise ValueError(f"{path} holds no network of the space that the supernet was restricted to")
    scale = 100 if max(accuracies.values()) > 1 else 1
    return Truth(path.name, {arch: fmean(values) / scale for arch, values in found.items()})


def num_retrained(text: str) -> int | None:
    """The number of networks in ``"retrain:N"``; None for anything else, such as a path.

    Raises:
        ValueError: it is no number of at least 2.
    """
    if text.partition(":")[0] != "retrain":
        return None
    match = re.fullmatch(r"retrain:(\d+)", text)
    if match is None or int(match[1]) < 2:
        raise ValueError(f"truth=retrain:N retrains N networks, at least 2, such as retrain:20; it cannot be {text!r}")
    return int(match[1])


def _parse(key: str, space: SearchSpace, whole: SearchSpace) -> Arch | None:
    """None for a network of the ``whole`` space that its restriction ``space`` does not have."""
    try:
        return space.parse(key)
    except ValueError:
        whole.parse(key)
        return None


def _accuracy(key: str, entry: Any) -> float:
    """In the unit of the table."""
    value = entry
    if isinstance(entry, dict):
        value = next((entry[name] for name in _NAMES if name in entry), None)
    values = value if isinstance(value, list) and value else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, (int, float)) or not 0 <= one <= 100:
            raise ValueError(
                f"the entry of {key!r} holds no accuracy: a number from 0 to 100, or an object that has one as "
                f"{', '.join(_NAMES)}, is expected, not {short(entry)}"
            )
    return fmean(values)
