"""Measures a lookup table of this machine: every layer that networks of a search space can have, and how well sums predict."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy
import torch
from torch import Tensor

from oneshot.arch import Arch
from oneshot.checking import check_least
from oneshot.costs.latency import describe_device, measure_latency, num_threads, timed_device, timer
from oneshot.costs.layers import LayerWalk
from oneshot.costs.lookup import LatencyTable, LayerTime, TableCheck
from oneshot.costs.walking import Call
from oneshot.progress import progress
from oneshot.runs import require_same, writing
from oneshot.spaces.base import SearchSpace

log = logging.getLogger(__name__)

# Layers are timed in turns of this many, so that what disturbs the machine for a while does not fall on one of them; then the
# file is written.
_GROUP = 48
_PATIENCE = 100


@dataclass(frozen=True)
class MeasureSettings:
    """How layers are timed.

    Args:
        batch: images a pass.
        threads: CPU threads; None is torch's choice.
        device: "cpu" or "cuda".
        warmup, repeats: passes of each layer before and during the measurement.
    """

    batch: int = 1
    threads: int | None = 1
    device: str = "cpu"
    warmup: int = 3
    repeats: int = 20

    def __post_init__(self) -> None:
        check_least(1, "latency.", batch=self.batch, threads=self.threads, repeats=self.repeats)
        check_least(0, "latency.", warmup=self.warmup)


def measure_table(
    space: SearchSpace,
    resolutions: Sequence[int] | None = None,
    settings: MeasureSettings | None = None,
    folder: str | Path | None = None,
) -> LatencyTable:
    """Times every layer that an architecture of ``space`` has at ``resolutions`` (None: all of the space's), each once for all
    networks that have it: the median of its passes, in turns with other layers.

    With a ``folder`` the table is written there as it grows, and layers that it holds already are not timed again.

    Raises:
        ValueError: a resolution that the space does not have, a device that does not exist here, or a folder with a table that
            was measured otherwise.
        OSError: the folder cannot be written, or another process writes there.
    """
    settings = settings or MeasureSettings()
    place = timed_device(settings.device)
    sizes = list(space.input_sizes if resolutions is None else resolutions)
    spaces = {size: _at(space, size) for size in sizes}
    walk = LayerWalk(space, settings.batch)
    lock = contextlib.nullcontext() if folder is None else writing(Path(folder))
    with lock, num_threads(settings.threads) as threads:
        table = _start(space, settings, describe_device(place), threads, folder)
        for size, restricted in spaces.items():
            steps = _distinct(restricted, walk, f"{size} px: layers")
            layers = table.times.setdefault(size, {})
            missing = {name: call for name, call in steps.items() if name not in layers}
            log.info("input size %d: %d layers, %d to measure", size, len(steps), len(missing))
            with progress(log, f"{size} px", "layer", total=len(missing)) as bar:
                for start in range(0, len(missing), _GROUP):
                    group = dict(list(missing.items())[start : start + _GROUP])
                    layers |= _time(group, place, settings)
                    if folder is not None:
                        table.save(folder, [size])
                    bar.update(len(group))
    return table


def check_table(
    table: LatencyTable, num_networks: int = 20, settings: MeasureSettings | None = None, seed: int = 0
) -> TableCheck:
    """Measures ``num_networks`` random networks of the table's space and input sizes as a whole.

    Raises:
        ValueError: the table does not know its space, or lacks a layer of one of them.
    """
    settings = settings or MeasureSettings()
    if table.space is None:
        raise ValueError("the latency table does not say of which space it is: LatencyTable.load(path, space)")
    space, rng = table.space, random.Random(seed)
    sizes = list(table.times)
    archs = [_at(space, sizes[index % len(sizes)]).sample(rng) for index in range(num_networks)]
    predicted = [table.latency(arch) for arch in archs]
    measured = []
    for arch in progress(log, "whole networks", "network", iterable=archs):
        latency = measure_latency(
            space.network(arch),
            space.input_shape(arch),
            batch=settings.batch,
            threads=settings.threads,
            device=settings.device,
            warmup=settings.warmup,
            repeats=settings.repeats,
        )
        measured.append(latency.median_ms)
    errors = [abs(one / other - 1) for one, other in zip(predicted, measured, strict=True)]
    differ = len(set(predicted)) > 1 and len(set(measured)) > 1
    correlation = float(numpy.corrcoef(predicted, measured)[0, 1]) if differ else None
    return TableCheck(predicted, measured, median(errors), correlation)


# Which layers there are ----------------------------------------------------------------------------------------------


def _at(space: SearchSpace, size: int) -> SearchSpace:
    """``space`` with one input size."""
    if any(choice.name == "resolution" for choice in space.choices):
        return space.restrict({"resolution": (size,)})
    if size != space.resolution:
        raise ValueError(f"the input size of this space is {space.resolution}, not {size}")
    return space


def _distinct(space: SearchSpace, walk: LayerWalk, title: str) -> dict[str, Call]:
    """Every layer once. Most show where each two options meet; random networks follow until many bring nothing new."""
    found: dict[str, Call] = {}
    rng = random.Random(0)

    def archs() -> Iterator[Arch]:
        yield from space.covering()
        yield from space.pairwise()
        seen, since = len(found), 0
        while since < _PATIENCE:
            yield space.sample(rng)
            since = since + 1 if len(found) == seen else 0
            seen = len(found)

    walked: set[Arch] = set()
    for arch in progress(log, title, "network", iterable=archs()):
        if arch not in walked:
            walked.add(arch)
            for name, call in walk(arch):
                found.setdefault(name, call)
    return found


def _start(
    space: SearchSpace, settings: MeasureSettings, device: str, threads: int, folder: str | Path | None
) -> LatencyTable:
    """An empty table, or that of the folder."""
    description = {"device": device, "batch": settings.batch, "threads": threads, "memory_format": "channels_last"}
    table = LatencyTable({}, space, {**description, "space": space.definition})
    if folder is None or not Path(folder).is_dir() or not any(Path(folder).glob("*_lookup_table.yaml")):
        return table
    earlier = LatencyTable.load(folder, space)
    before = {name: earlier.description.get(name) for name in table.description}
    require_same(Path(folder), "holds a table measured otherwise", before, table.description)
    return LatencyTable(earlier.times, space, table.description)


# Timing --------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def _time(group: Mapping[str, Call], place: torch.device, settings: MeasureSettings) -> dict[str, LayerTime]:
    forwards = [_forward(call, place) for call in group.values()]
    for forward in forwards:
        for _ in range(settings.warmup):
            forward()
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    timers = [timer(forward, place) for forward in forwards]
    rounds = numpy.array([[run() for run in timers] for _ in range(settings.repeats)])
    return {
        name: LayerTime(float(numpy.median(times)), float(times.std()), settings.repeats)
        for name, times in zip(group, rounds.T, strict=True)
    }


def _forward(call: Call, place: torch.device) -> Callable[[], object]:
    """The layer as it runs in a network, on random input."""
    run: Callable[..., Any] = call.source if call.block is None else call.block.construct().eval().to(place)
    generator = torch.Generator().manual_seed(0)
    args, kwargs = (_filled(value, place, generator) for value in (call.args, call.kwargs))
    return lambda: run(*args, **kwargs)


def _filled(value: Any, place: torch.device, generator: torch.Generator) -> Any:
    """Nested arguments with values on the device for tensors on the meta device."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            return torch.zeros(value.shape, dtype=value.dtype, device=place)
        filled = torch.randn(value.shape, generator=generator).to(place, value.dtype)
        return filled.contiguous(memory_format=torch.channels_last) if filled.ndim == 4 else filled
    if isinstance(value, torch.device):
        return place
    if isinstance(value, dict):
        return {name: _filled(item, place, generator) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, place, generator) for item in value)
    return value
