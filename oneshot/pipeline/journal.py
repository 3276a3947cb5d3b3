"""The journal of a search: every evaluated candidate as one row of ``candidates.csv``, written as it is scored."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from oneshot.arch import Arch
from oneshot.evaluation import Score
from oneshot.reading import short
from oneshot.spaces.base import SearchSpace

_FIELDS = ("index", "source", "accuracy", "loss", "num_images", "macs", "params", "latency_ms", "arch")


class Journal:
    """Remembers scores across a stop: a search that is run again in the same folder reads them instead of evaluating.

    Args:
        path: the CSV file; rows of an earlier run are read, a last row cut short by a kill is dropped.
        space: whose architectures it holds.

    Raises:
        ValueError: the file holds other columns, or architectures of another space.
    """

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path = path
        self.scores: dict[Arch, Score] = {}
        self._rows: dict[Arch, tuple[str, ...]] = {}
        self._wanted: dict[Arch, None] = {}
        fields, *rows = _read_rows(path) or [list(_FIELDS)]
        if tuple(fields) != _FIELDS:
            raise ValueError(f"{path} is not a list of candidates of this version: its columns are {short(fields)}")
        if not path.is_file() or path.stat().st_size == 0:
            _append(path, _FIELDS)
        for number, values in enumerate(rows):
            try:
                row = dict(zip(_FIELDS, values, strict=True))
                arch = space.arch(json.loads(row["arch"]))
                self.scores[arch] = Score(float(row["accuracy"]), float(row["loss"]), int(row["num_images"]))
                self._rows[arch] = tuple(row[name] for name in _FIELDS[1:])
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"{path}, row {number}: {error}") from None

    def add(self, source: str, arch: Arch, score: Score, macs: int, params: int, latency_ms: float | None) -> None:
        """Records a candidate of the strategy ("search") or of the baseline ("random")."""
        self.scores[arch] = score
        costs = (macs, params, "" if latency_ms is None else latency_ms)
        row = (source, score.accuracy, score.loss, score.num_images, *costs, arch.to_json())
        self._rows[arch] = tuple(map(str, row))
        _append(self.path, (len(self.scores) - 1, *row))

    def arrange(self, archs: Sequence[Arch]) -> None:
        """Puts the rows into the order in which architectures were asked for, ``archs`` being the last ones: scored together,
        they come in another order, and in yet another one after a stop.
        """
        self._wanted.update(dict.fromkeys(archs))
        rest = [arch for arch in self._rows if arch not in self._wanted]
        order = [*(arch for arch in self._wanted if arch in self._rows), *rest]
        if order == list(self._rows):
            return
        self._rows = {arch: self._rows[arch] for arch in order}
        self.scores = {arch: self.scores[arch] for arch in order}
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_FIELDS)
            writer.writerows((index, *row) for index, row in enumerate(self._rows.values()))
        temporary.replace(self.path)


class Rungs:
    """Scores on the first held-out images, kept in a CSV file: successive halving that was stopped decides as it would have."""

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path = path
        self._known: dict[tuple[Arch, int], Score] = {}
        for row in _read_rows(path):
            try:
                accuracy, loss, number, values = row
                self._known[space.arch(json.loads(values)), int(number)] = Score(
                    float(accuracy), float(loss), int(number)
                )
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"{path}, row {len(self._known)}: {error}") from None

    def get(self, arch: Arch, num_images: int) -> Score | None:
        """The score of ``arch`` on the first ``num_images``, if that is known."""
        return self._known.get((arch, num_images))

    def add(self, arch: Arch, score: Score) -> None:
        """Remembers a score on the first ``score.num_images``."""
        self._known[arch, score.num_images] = score
        _append(self.path, (score.accuracy, score.loss, score.num_images, arch.to_json()))


class Latencies:
    """Measured latencies in milliseconds, kept in a CSV file so that a continued search sees the same numbers.

    Args:
        measure: milliseconds of one architecture.
    """

    def __init__(self, path: Path, space: SearchSpace, measure: Callable[[Arch], float]) -> None:
        self.path, self._measure = path, measure
        self._known: dict[Arch, float] = {}
        for row in _read_rows(path):
            try:
                value, values = row
                self._known[space.arch(json.loads(values))] = float(value)
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"{path}, row {len(self._known)}: {error}") from None

    def __call__(self, arch: Arch) -> float:
        """The latency of ``arch``, measured at the first call."""
        if arch not in self._known:
            self._known[arch] = self._measure(arch)
            _append(self.path, (repr(self._known[arch]), arch.to_json()))
        return self._known[arch]

    def known(self, archs: Sequence[Arch]) -> dict[Arch, float]:
        """The latencies of those of ``archs`` that have been measured."""
        return {arch: self._known[arch] for arch in archs if arch in self._known}


def _append(path: Path, row: Sequence[object]) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)


def _read_rows(path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(_whole_lines(path)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file: {error}") from None


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file; a last one cut short by a kill is cut off, so that the next one is not appended to it."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(whole, encoding="utf-8")
        temporary.replace(path)
    return whole.splitlines()
