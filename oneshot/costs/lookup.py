"""Latency from a lookup table of layers, in the form of the tables that Once-for-All publishes."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from oneshot.arch import Arch, suggest
from oneshot.costs.layers import LayerWalk
from oneshot.reading import read_json, read_yaml, short
from oneshot.runs import write_json, write_text
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.loading import from_definition

log = logging.getLogger(__name__)

_SUFFIX = "_lookup_table.yaml"
_DESCRIPTION = "table.json"
_CHECK = "check.json"
_TOLD = ("device", "batch", "threads")  # of a description
_LEAST_CORRELATION = 0.5  # of sums with measured latencies


@dataclass(frozen=True)
class LayerTime:
    """What one layer takes, in milliseconds, over ``count`` measurements."""

    mean: float
    std: float = 0.0
    count: int = 1


@dataclass(frozen=True)
class TableCheck:
    """Latencies of whole networks beside what a table says, in milliseconds.

    Args:
        predicted, measured: of each network.
        median_relative_error: the median of ``|predicted / measured - 1|``.
        correlation: Pearson's; None for fewer than two different values.
    """

    predicted: list[float]
    measured: list[float]
    median_relative_error: float
    correlation: float | None

    @property
    def is_in_order(self) -> bool:
        """Whether the table tells faster networks from slower ones, as far as is known."""
        return self.correlation is None or self.correlation >= _LEAST_CORRELATION

    def __str__(self) -> str:
        correlation = "none" if self.correlation is None else f"{self.correlation:.3f}"
        return (
            f"{len(self.measured)} whole networks: the sum of the layers is off by "
            f"{100 * self.median_relative_error:.1f}% (median), correlation {correlation}"
        )

    def save(self, folder: str | Path) -> None:
        """Writes ``check.json`` beside the table in ``folder``."""
        write_json(Path(folder) / _CHECK, asdict(self))


class LatencyTable:
    """Milliseconds of the layers of a search space's networks at several input sizes. Nothing is interpolated.

    Args:
        times: for each input size in pixels, the layers' names (``layer_name``) and what they take.
        space: whose architectures are looked up.
        description: plain values to keep with the table, such as the machine and the batch.

    Attributes:
        check: how well sums agreed with whole networks, of a table that was read from a folder where ``measure_latency.py`` has
            put that.
    """

    def __init__(
        self,
        times: Mapping[int, Mapping[str, LayerTime]],
        space: SearchSpace | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.times = {size: dict(layers) for size, layers in sorted(times.items())}
        self.space = space
        self.description = dict(description or {})
        self.check: TableCheck | None = None
        self._walk = None if space is None else LayerWalk(space)

    @classmethod
    def load(cls, path: str | Path | Sequence[str | Path], space: SearchSpace | None = None) -> LatencyTable:
        """Reads YAML files of the form ``layer: {count, mean, std}``, whose names begin with the input size
        (``160_lookup_table.yaml``): one file, a list of them, or all that a folder holds. Tables that ``save`` wrote know their
        ``space``; others need it. One that did not put whole networks in order when it was measured is told by a warning.

        Raises:
            FileNotFoundError: there is no such file, or no table in the folder.
            ValueError: a file is no table; the message names it.
        """
        description: dict[str, Any] = {}
        if isinstance(path, (str, Path)) and Path(path).is_dir():
            files = sorted(Path(path).glob(f"*{_SUFFIX}"))
            if not files:
                raise FileNotFoundError(f"{path} holds no latency table (no *{_SUFFIX})")
            if (Path(path) / _DESCRIPTION).is_file():
                description = _read_description(Path(path) / _DESCRIPTION)
        else:
            files = [Path(path)] if isinstance(path, (str, Path)) else [Path(file) for file in path]
            if missing := next((file for file in files if not file.exists()), None):
                raise FileNotFoundError(f"there is no latency table {missing}; measure_latency.py writes one")
        times: dict[int, dict[str, LayerTime]] = {}
        for file in files:
            size = re.match(r"\d+", file.name)
            if size is None:
                raise ValueError(f"{file}: the name of a latency table begins with its input size, as 160{_SUFFIX}")
            if int(size[0]) in times:
                raise ValueError(f"{file} is a second table of input size {int(size[0])}")
            times[int(size[0])] = _read_times(file)
        measured = description.get("space")
        if space is None:
            space = None if measured is None else from_definition(measured)
        elif isinstance(measured, dict) and measured.get("_target_") != space.definition["_target_"]:
            other = str(measured.get("_target_")).rpartition(".")[2]
            raise ValueError(
                f"{path} is a latency table of {other}, not of {type(space).__name__}: measure one of that space"
            )
        table = cls(times, space, description)
        if isinstance(path, (str, Path)) and (Path(path) / _CHECK).is_file():
            table.check = _read_check(Path(path) / _CHECK)
            if not table.check.is_in_order:
                log.warning("%s does not put networks in order; when it was measured, %s", path, table.check)
        return table

    def summed_over(self, path: str | Path) -> str:
        """In words what latencies are that were summed up from ``path``: how it was measured and how far its sums were off, as
        far as that is known.
        """
        known = [f"{name} {self.description[name]}" for name in _TOLD if name in self.description]
        if self.check is not None:
            known.append(f"off by {100 * self.check.median_relative_error:.1f}% (median) in whole networks")
        return f"summed over {path}{' of ' if known else ''}{', '.join(known)}"

    def save(self, folder: str | Path, sizes: Iterable[int] | None = None) -> None:
        """Writes one file for each input size, or for those of ``sizes``, to ``folder`` in the same form, and ``table.json`` with
        the space and the description.
        """
        folder = Path(folder)
        description = dict(self.description)
        if self.space is not None:
            description["space"] = self.space.definition
        write_json(folder / _DESCRIPTION, description)
        for size in self.times if sizes is None else sizes:
            times = self.times[size].items()
            plain = {name: {"count": time.count, "mean": time.mean, "std": time.std} for name, time in times}
            write_text(folder / f"{size}{_SUFFIX}", yaml.safe_dump(plain, sort_keys=True, width=math.inf))

    def contributions(self, arch: Arch) -> dict[str, float]:
        """The milliseconds that each block of ``arch`` adds, by name of block; ``""`` for what runs outside of the blocks.

        Raises:
            ValueError: the table has no such input size or layer; the message names the nearest that it has. Or the table does
                not know its space.
        """
        if self.space is None or self._walk is None:
            raise ValueError("the latency table does not say of which space it is: LatencyTable.load(path, space)")
        named, taken = self._walk(arch), dict[str, float]()
        size = self.space.input_shape(arch)[-1]
        for name, call in named:
            block = "" if call.block is None else call.block.name
            taken[block] = taken.get(block, 0.0) + self.time(size, name)
        return taken

    def time(self, size: int, name: str) -> float:
        """The milliseconds of a layer at an input size in pixels.

        Raises:
            ValueError: the table has no such input size or layer; the message names the nearest that it has.
        """
        if size not in self.times:
            raise ValueError(f"there is no latency table of input size {size}; there are {sorted(self.times)}")
        layers = self.times[size]
        if name not in layers:
            raise ValueError(f"the latency table of input size {size} has no layer {name!r}{suggest(name, layers)}")
        return layers[name].mean

    def latency(self, arch: Arch) -> float:
        """Milliseconds of ``arch``: the sum of its layers.

        Raises:
            ValueError: as ``contributions``.
        """
        return math.fsum(self.contributions(arch).values())


def _read_description(path: Path) -> dict[str, Any]:
    content = read_json(path, "description")
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no description of a latency table but a {type(content).__name__}")
    return content


def _read_times(path: Path) -> dict[str, LayerTime]:
    content = read_yaml(path, "latency table")
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} is no latency table: it holds {'nothing' if not content else type(content).__name__}")
    return {str(name): _read_time(path, name, entry) for name, entry in content.items()}


def _read_time(path: Path, name: object, entry: Any) -> LayerTime:
    values = {"std": 0.0, "count": 1, **entry} if isinstance(entry, dict) else {}
    for key in ("mean", "std", "count"):
        value = values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            raise ValueError(f"{path}: the {key} of layer {short(name)} is a number from 0, not {short(value)}")
    return LayerTime(float(values["mean"]), float(values["std"]), int(values["count"]))


def _read_check(path: Path) -> TableCheck:
    content = read_json(path, "check of a latency table")
    try:
        predicted, measured = ([float(value) for value in content[name]] for name in ("predicted", "measured"))
        error, correlation = float(content["median_relative_error"]), content["correlation"]
        return TableCheck(predicted, measured, error, None if correlation is None else float(correlation))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is no check of a latency table, as measure_latency.py writes it") from None
