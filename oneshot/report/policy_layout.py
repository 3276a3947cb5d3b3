"""How the history of a policy is arranged: panels of like choices, a band for each choice, a row for each option."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from oneshot.report.model import PolicyHistory
from oneshot.report.naming import group_choices

ROW = 12.0
_MOST_COLUMNS = 160
_MOST_CELLS = 20_000
_FEWEST_COLUMNS = 12
_MOST_ROWS = 40
_APART, _SINGLES_APART = 6.0, 2.0
_TRUE, _FALSE = frozenset({"true", "yes"}), frozenset({"false", "no"})
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Row:
    """One option of one choice, ``top`` pixels below the top of its panel; ``values`` are in the order of the columns."""

    choice: str
    option: str
    top: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Band:
    """The rows of one choice. A boolean choice has one, the probability of true, and is ``single``."""

    name: str
    rows: tuple[Row, ...]
    single: bool


@dataclass(frozen=True)
class Panel:
    """Bands of one kind of choice, such as all kernel sizes, that are drawn below one another."""

    name: str
    bands: tuple[Band, ...]
    height: float


def check_policy(history: PolicyHistory) -> None:
    """Raises ValueError for a row that does not fit the steps, or a number that is neither a probability nor NaN."""
    for choice, options in history.probabilities.items():
        for option, values in options.items():
            name = f"option {option!r} of choice {choice!r}"
            if len(values) != len(history.steps):
                raise ValueError(f"{name} has {len(values)} probabilities for {len(history.steps)} steps")
            for step, value in zip(history.steps, values, strict=True):
                if not (math.isnan(value) or -_ROUNDING <= value <= 1 + _ROUNDING):
                    raise ValueError(f"{name} has probability {value} at step {step}; allowed are 0 to 1, and NaN")


def shown_columns(history: PolicyHistory) -> list[int]:
    """The positions of the steps to draw, in the order of the steps: all, or as many as a page can carry.

    The first and the last are kept, the others are evenly spaced among what was recorded.
    """
    order = sorted(range(len(history.steps)), key=lambda i: history.steps[i])
    num_rows = sum(1 if _true_option(options) else len(options) for options in history.probabilities.values())
    most = max(_FEWEST_COLUMNS, min(_MOST_COLUMNS, _MOST_CELLS // max(1, num_rows)))
    if len(order) <= most:
        return order
    return [order[round(i * (len(order) - 1) / (most - 1))] for i in range(most)]


def arrange_panels(history: PolicyHistory, columns: Sequence[int]) -> list[Panel]:
    """The choices in panels by kind: "stage1.block1.kernel" stands with all other kernels, in a few short panels.

    Kinds of a single choice share one nameless panel.
    """
    names = [name for name, options in history.probabilities.items() if options]
    kinds: dict[str, list[str]] = {}
    for group in group_choices(names):
        for kind, positions in group.kinds.items():
            kinds.setdefault(kind, []).extend(names[position] for position in positions)
    lone = [members[0] for members in kinds.values() if len(members) == 1]
    several = {kind: members for kind, members in kinds.items() if len(members) > 1}
    panels = []
    for kind, members in [("", lone), *several.items()]:
        members = sorted(members, key=names.index)
        short = _without_common_ending(members)
        for part, bands in enumerate(_parts([_band(history, name, short[name], columns) for name in members])):
            panels.append(_panel(f"{kind} (cont.)" if part and kind else kind, bands))
    return panels


def _band(history: PolicyHistory, choice: str, name: str, columns: Sequence[int]) -> Band:
    options = history.probabilities[choice]
    true = _true_option(options)
    shown = [true] if true else list(options)
    rows = (
        Row(choice, option, 0.0, tuple(min(1.0, max(0.0, v)) if v == v else v for v in _take(options[option], columns)))
        for option in shown
    )
    return Band(name, tuple(rows), bool(true))


def _take(values: Sequence[float], columns: Sequence[int]) -> Iterable[float]:
    return (float(values[i]) for i in columns)


def _true_option(options: Iterable[str]) -> str | None:
    names = list(options)
    true = [name for name in names if name.lower() in _TRUE]
    both = len(true) == 1 and all(name.lower() in _TRUE | _FALSE for name in names) and len(names) <= 2
    return true[0] if both else None


def _without_common_ending(names: Sequence[str]) -> dict[str, str]:
    endings = {name.rpartition(".")[2] for name in names}
    heads = {name: name.rpartition(".")[0] for name in names}
    return heads if len(names) > 1 and len(endings) == 1 and all(heads.values()) else {name: name for name in names}


# A long panel is broken into even parts, so that they can stand side by side.
def _parts(bands: Sequence[Band]) -> list[list[Band]]:
    num_rows = sum(len(band.rows) for band in bands)
    count = max(1, math.ceil(num_rows / _MOST_ROWS))
    numbered, seen = [], 0
    for band in bands:
        numbered.append((min(count - 1, count * seen // max(1, num_rows)), band))
        seen += len(band.rows)
    return [[band for _, band in members] for _, members in groupby(numbered, key=lambda pair: pair[0])]


def _panel(name: str, bands: Sequence[Band]) -> Panel:
    placed: list[Band] = []
    top = 0.0
    for band in bands:
        if placed:
            top += _SINGLES_APART if band.single and placed[-1].single else _APART
        rows = [Row(row.choice, row.option, top + ROW * i, row.values) for i, row in enumerate(band.rows)]
        placed.append(Band(band.name, tuple(rows), band.single))
        top += ROW * len(rows)
    return Panel(name, tuple(placed), top)
