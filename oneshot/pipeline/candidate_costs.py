"""What candidates cost: counted, read from a table of latencies, or timed on this machine and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from numpy.typing import ArrayLike
from torch import nn

from oneshot.arch import Arch
from oneshot.costs import AdditiveLatency, Cost, CostSettings, CostTable, LatencyTable, measure_latency
from oneshot.evaluation import Score
from oneshot.report.units import SPACE, format_cost
from oneshot.runs import Store
from oneshot.search import Problem
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding


def _no_score(codes: Codes) -> list[float]:
    return [0.0] * len(codes)


class Networks(Protocol):
    """What makes plain modules of architectures, such as a supernet."""

    @property
    def space(self) -> SearchSpace: ...

    def extract(self, arch: Arch) -> nn.Module: ...


def describe_cost(cost: Cost, latency: float | None = None) -> str:
    """What a network costs, in a line."""
    known = [format_cost("macs", cost.macs), format_cost("params", cost.params)]
    if latency is not None:
        known.append(format_cost("latency_ms", latency))
    return ", ".join(known).replace(SPACE, " ")


class CandidateCosts:
    """The costs of a supernet's subnets, or of other networks of a space.

    Args:
        settings: where latency comes from; the limits are not looked at.

    Attributes:
        store: remembers latencies that were measured; nothing is measured before there is one.
        table: MACs and parameters.
        coding: of the space.
        conditions: under which latency is known, in words; "" before the first was measured.
    """

    store: Store[Arch, Score]

    def __init__(self, supernet: Networks, settings: CostSettings) -> None:
        self.supernet, self.settings = supernet, settings
        self.table, self.coding = CostTable(supernet.space), Coding(supernet.space)
        self._looked_up: AdditiveLatency | None = None
        self._measured_as = (
            f"{settings.latency_device}, batch {settings.latency_batch}, threads {settings.latency_threads}"
        )
        self.conditions = ""
        if settings.latency_table is not None:
            table = LatencyTable.load(settings.latency_table, supernet.space)
            self._looked_up = AdditiveLatency(supernet.space, table.contributions)
            self.conditions = table.summed_over(settings.latency_table)

    @property
    def origin(self) -> str:
        """Where latencies come from, in words."""
        return f"measured: {self._measured_as}" if self._looked_up is None else self.conditions

    def problem(self, limits: CostSettings, score: Callable[[Codes], ArrayLike] = _no_score) -> Problem:
        """The subnets within ``limits``, ranked by ``score``: with a supernet, or with a predictor. Without, they are to be drawn
        from alone.
        """
        timed = self._time if self._looked_up is None else self._looked_up.latencies_of
        functions = {**self.table.functions, "latency_ms": timed}
        guides = {"latency_ms": "macs"} if self._looked_up is None else {}
        return Problem(self.coding, score, functions, limits.limits, limits.minimize, guides, limits.written)

    def check(self, limits: Sequence[CostSettings]) -> None:
        """Raises ValueError where no network meets some limits, as far as that is known before anything is measured."""
        for one in limits:
            if self._looked_up is not None or not one.needs_latency:
                self.problem(one).check()

    def meets(self, arch: Arch, limits: CostSettings) -> bool:
        """Whether a network is known to be within ``limits``; one that was not timed is not known to be within a latency."""
        cost = self.table.cost(arch)
        known = {"macs": cost.macs, "params": cost.params, "latency_ms": self.known_latency(arch)}
        values = [(known[name], limit) for name, limit in limits.limits.items()]
        return all(value is not None and value <= limit for value, limit in values)

    def latency(self, arch: Arch) -> float:
        """Milliseconds from the table, or measured once on this machine."""
        known = self.known_latency(arch)
        if known is None:
            known = self._measure(arch)
            self.store.add_latency(arch, self._measured_as, known)
        return known

    def known_latency(self, arch: Arch) -> float | None:
        """Milliseconds from the table, or measured before; None where it was not."""
        if self._looked_up is not None:
            return self._looked_up.latency(arch)
        return self.store.latency(arch, self._measured_as)

    def _time(self, codes: Codes) -> list[float]:
        return [self.latency(arch) for arch in self.coding.decode(codes)]

    def _measure(self, arch: Arch) -> float:
        settings = self.settings
        latency = measure_latency(
            self.supernet.extract(arch),
            self.supernet.space.input_shape(arch),
            batch=settings.latency_batch,
            threads=settings.latency_threads,
            device=settings.latency_device,
            warmup=settings.latency_warmup,
            repeats=settings.latency_repeats,
        )
        self.conditions = f"median of {latency.conditions}"
        return latency.median_ms
