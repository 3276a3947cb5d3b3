"""Cost limits and how latency is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from oneshot.checking import check_least


@dataclass(frozen=True)
class CostSettings:
    """Upper limits of what a network may cost; None is no limit.

    Args:
        max_macs: multiply-accumulates of one image.
        max_params: parameters.
        max_latency_ms: median milliseconds of a batch on ``latency_device``.
        minimize: the cost on the axis of the report and of the Pareto front: "macs", "params" or "latency_ms".
        latency_table: a folder or file of layer latencies to sum up instead of measuring; see ``LatencyTable``.
        latency_batch: images a batch.
        latency_threads: CPU threads; None is torch's choice.
        latency_device: "cpu" or "cuda".
        latency_warmup, latency_repeats: runs before and during the measurement.
    """

    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None
    minimize: str = "macs"
    latency_table: str | None = None
    latency_batch: int = 1
    latency_threads: int | None = 1
    latency_device: str = "cpu"
    latency_warmup: int = 3
    latency_repeats: int = 15

    def __post_init__(self) -> None:
        for name in ("max_macs", "max_params", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"cost.{name} is above 0, or null for no limit, not {value}")
        if self.minimize not in ("macs", "params", "latency_ms"):
            raise ValueError(f"cost.minimize is 'macs', 'params' or 'latency_ms', not {self.minimize!r}")
        least_one = {name: getattr(self, name) for name in ("latency_batch", "latency_threads", "latency_repeats")}
        check_least(1, "cost.", **least_one)
        check_least(0, "cost.", latency_warmup=self.latency_warmup)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by the cost's name."""
        values = {"macs": self.max_macs, "params": self.max_params, "latency_ms": self.max_latency_ms}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def written(self) -> dict[str, str]:
        """How limits were written that were not written as numbers, by the cost's name: "50%"."""
        return {}

    @property
    def needs_latency(self) -> bool:
        """Whether candidates have to be timed."""
        return self.max_latency_ms is not None or self.minimize == "latency_ms"


@dataclass(frozen=True)
class RelativeCostSettings(CostSettings):
    """Cost limits of which some are percentages of what the network costs that the space was made of.

    Args:
        percentages: the names of those: "max_macs", "max_params".
    """

    percentages: tuple[str, ...] = ()

    def of_original(self, costs: Mapping[str, float]) -> CostSettings:
        """These settings with percentages turned into limits.

        Args:
            costs: of the network that is 100 %, by name: "macs", "params".
        """
        values = {field.name: getattr(self, field.name) for field in fields(CostSettings)}
        limits = {name: values[name] / 100 * costs[name.removeprefix("max_")] for name in self.percentages}
        written = tuple((name.removeprefix("max_"), f"{values[name]:.10g}%") for name in self.percentages)
        return _LimitsOfOriginal(**values | limits, percentages=written)


@dataclass(frozen=True)
class _LimitsOfOriginal(CostSettings):
    percentages: tuple[tuple[str, str], ...] = ()

    @property
    def written(self) -> dict[str, str]:
        return dict(self.percentages)
