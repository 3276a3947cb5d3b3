"""Measured latency of a network on this machine: medians over repeated forward passes, on the CPU or a CUDA device."""

import copy
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

from oneshot.devices import resolve_device

__all__ = ["Latency", "measure_latency"]


@dataclass(frozen=True)
class Latency:
    """Times of one forward pass of a whole batch, in milliseconds, and the conditions under which it was measured."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    batch: int
    threads: int
    device: str
    repeats: int
    memory_format: str

    @property
    def conditions(self) -> str:
        """Under which it was measured, like ``30 runs, batch 1, 1 thread, cpu (...), channels_last``."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        runs = "1 run" if self.repeats == 1 else f"{self.repeats} runs"
        return f"{runs}, batch {self.batch}, {threads}, {self.device}, {self.memory_format}"

    def describe(self) -> str:
        """A line like ``3.21 ms median (3.10-3.40) of 30 runs, batch 1, 1 thread, cpu (...), channels_last``."""
        spread = f"{_milliseconds(self.p10_ms)}-{_milliseconds(self.p90_ms)}"
        return f"{_milliseconds(self.median_ms)} ms median ({spread}) of {self.conditions}"


def measure_latency(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    batch: int = 1,
    threads: int | None = 1,
    device: str = "cpu",
    warmup: int = 5,
    repeats: int = 20,
    min_seconds: float = 0.0,
) -> Latency:
    """Times ``module`` on random input ``(batch, *input_shape)`` after ``warmup`` untimed passes.

    Passes are repeated until there are ``repeats`` of them and they have taken ``min_seconds`` seconds. An input of four
    dimensions, ``(batch, channels, height, width)``, is laid out channels_last, which is the faster layout for
    convolutions. ``threads`` is the number of torch's CPU threads; ``None`` leaves it as it is. The training mode of every
    submodule and the thread count are restored, also where a pass raises. A module that lies on another device is
    copied there; the caller's stays where it is.

    Raises ValueError for a size, count or time that is out of range and for a device that does not exist here.
    """
    _check_arguments(input_shape, batch, threads, warmup, repeats, min_seconds)
    place = timed_device(device)
    if any(tensor.device != place for tensor in (*module.parameters(), *module.buffers())):
        module = copy.deepcopy(module).to(place)
    images = _random_input(module, (batch, *input_shape), place)
    with num_threads(threads) as used_threads, _eval_mode(module), torch.inference_mode():
        times = _time(lambda: module(images), place, warmup, repeats, min_seconds)
    p10, median, p90 = (float(value) for value in numpy.percentile(times, (10, 50, 90)))
    return Latency(
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
        batch=batch,
        threads=used_threads,
        device=describe_device(place),
        repeats=len(times),
        memory_format="channels_last" if images.ndim == 4 else "contiguous",
    )


def _check_arguments(
    input_shape: tuple[int, ...], batch: int, threads: int | None, warmup: int, repeats: int, min_seconds: float
) -> None:
    if not input_shape or any(size < 1 for size in input_shape):
        raise ValueError(f"input_shape must be one or more positive sizes without the batch, got {input_shape}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, or None to leave torch's setting, got {threads}")
    if warmup < 0:
        raise ValueError(f"warmup must be at least 0, got {warmup}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if not 0 <= min_seconds < math.inf:
        raise ValueError(f"min_seconds must be a finite number of seconds from 0, got {min_seconds}")


def timed_device(name: str) -> torch.device:
    """The device called ``name``, on which latency can be measured.

    Raises:
        ValueError: no such device here, or one of another kind.
    """
    place = resolve_device(name)
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"latency cannot be measured on device {name!r} (allowed: 'cpu', 'cuda', 'cuda:N')")
    return place


def _random_input(module: nn.Module, shape: tuple[int, ...], place: torch.device) -> Tensor:
    dtype = next((tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()), torch.float32)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(place, dtype)
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


@contextmanager
def num_threads(threads: int | None) -> Iterator[int]:
    """Sets the number of torch's CPU threads for a while, unless None, and yield it."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    modes = [(child, child.training) for child in module.modules()]
    try:
        module.eval()
        yield
    finally:
        # Not ``train(mode)``, which recurses and which networks override to keep some layers frozen.
        for child, training in modes:
            child.training = training


def _time(
    forward: Callable[[], object], place: torch.device, warmup: int, repeats: int, min_seconds: float
) -> list[float]:
    """The milliseconds of each timed pass."""
    run = timer(forward, place)
    for _ in range(warmup):
        forward()
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < repeats or time.perf_counter() - started < min_seconds:
        times.append(run())
    return times


def timer(forward: Callable[[], object], place: torch.device) -> Callable[[], float]:
    """A function that runs ``forward`` once and returns the milliseconds it took."""
    return _cuda_timer(forward, place) if place.type == "cuda" else _cpu_timer(forward)


def _cpu_timer(forward: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        forward()
        return (time.perf_counter() - started) * 1e3

    return run


def _cuda_timer(forward: Callable[[], object], place: torch.device) -> Callable[[], float]:
    def run() -> float:
        # Each pass starts on an idle device, so launching the kernels counts, as it does for a single request.
        with torch.cuda.device(place):
            start = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            start.record()
            forward()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end))

    return run


def describe_device(place: torch.device) -> str:
    """The device's kind and model."""
    if place.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(place)})"
    return f"cpu ({_cpu_name()})"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # only Linux has the file
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()


def _milliseconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"
