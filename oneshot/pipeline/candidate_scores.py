"""Candidates scored with a supernet's weights in one folder, each of them once: what all searches of a supernet share."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import AdditiveLatency, CostSettings, CostTable, LatencyTable, measure_latency
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import Evaluator, Score, SuccessiveHalving
from oneshot.pipeline.folders import Trained, save_subnet
from oneshot.runs import Store, write_text
from oneshot.search import Problem
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding
from oneshot.spaces.graph import HasCells

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSettings:
    """How candidates are scored.

    Args:
        metric: "loss" (ties broken by accuracy), which ranks better, or "accuracy" (ties by loss).
        calibration_images: training images on which each candidate's BatchNorm statistics are measured.
        max_images: held-out images to score on, drawn at random; None is all.
        halving_images: successive halving: all candidates that a search proposes together are scored on so many of these
            images, the better half of them on twice as many, and so on; None scores every candidate on all.
        batch_size: images a forward pass.
        device: "auto", "cpu", "cuda", ...
        threads: CPU threads; None leaves torch's own choice.
        channels_last: memory format of the images.
        memory_limit_gb: GiB that may be kept of one candidate for others that begin alike; what does not fit is computed again.
    """

    metric: str = "loss"
    calibration_images: int = 512
    max_images: int | None = None
    halving_images: int | None = None
    batch_size: int = 256
    device: str = "auto"
    threads: int | None = None
    channels_last: bool = True
    memory_limit_gb: float = 2.0

    def __post_init__(self) -> None:
        if self.metric not in ("accuracy", "loss"):
            raise ValueError(f"evaluation.metric is 'accuracy' or 'loss', not {self.metric!r}")
        for name in ("calibration_images", "batch_size", "max_images", "halving_images", "threads"):
            value, least = getattr(self, name), 2 if name == "calibration_images" else 1
            if value is not None and value < least:
                raise ValueError(f"evaluation.{name} is at least {least}, not {value}")
        if not 0 <= self.memory_limit_gb < math.inf:
            raise ValueError(f"evaluation.memory_limit_gb is a number of at least 0, not {self.memory_limit_gb}")


class Scorer:
    """Scores and costs of a trained supernet's subnets, remembered in ``folder`` across a stop.

    Args:
        trained: the supernet to rank with.
        cost: where latency comes from; its limits are not looked at.
        folder: gets ``run.sqlite``, and from it ``candidates.csv`` and ``search.json``.
        seed: of the calibration images.
        config: plain values kept with every subnet (how to load its data again).

    Raises:
        ValueError: the folder holds another search.
    """

    def __init__(
        self,
        trained: Trained,
        data: ImageData,
        cost: CostSettings,
        evaluation: EvaluationSettings,
        folder: Path,
        seed: int,
        config: Mapping[str, Any],
    ) -> None:
        if evaluation.threads is not None:
            torch.set_num_threads(evaluation.threads)
        self.trained, self.data, self.cost, self.evaluation = trained, data, cost, evaluation
        self.folder, self.seed, self.config = folder, seed, config
        self.space = trained.supernet.space
        self.coding = Coding(self.space)
        device = resolve_device(evaluation.device)
        self.evaluator = Evaluator(
            trained.supernet.to(device).eval(),
            data,
            device=device,
            calibration_images=evaluation.calibration_images,
            batch_size=evaluation.batch_size,
            max_images=evaluation.max_images,
            channels_last=evaluation.channels_last,
            seed=seed,
            memory_limit=round(evaluation.memory_limit_gb * 2**30),
        )
        decode = self.space.arch
        self.store = Store(folder, self._identity(), lambda text: decode(json.loads(text)), Score)
        self._halving: SuccessiveHalving | None = None
        self._decided: set[Arch] = set()  # those that halving has stopped or scored on all images
        if evaluation.halving_images is not None:
            self._halving = SuccessiveHalving(self.evaluator, evaluation.halving_images, self.key, self.store)
        self.costs = CostTable(self.space)
        self._looked_up: AdditiveLatency | None = None
        if cost.latency_table is not None:
            table = LatencyTable.load(cost.latency_table, self.space)
            self._looked_up = AdditiveLatency(self.space, table.contributions)
        self._conditions = f"{cost.latency_device}, batch {cost.latency_batch}, threads {cost.latency_threads}"
        self.latency_conditions = "" if cost.latency_table is None else f"summed over {cost.latency_table}"

    def _identity(self) -> dict[str, Any]:
        """Scores of another supernet, or scored otherwise, must not be mixed with this search's."""
        identity: dict[str, Any] = {
            "supernet": self.trained.fingerprint,
            "data": self.data.name,
            "seed": self.seed,
            "calibration_images": self.evaluation.calibration_images,
            "held_out_images": len(self.evaluator.held_out.images),
        }
        if self.data.record is not None:
            identity["images"] = self.data.record.fingerprint
        if self.evaluation.halving_images is not None:
            identity["halving"] = f"{self.evaluation.halving_images} images, by {self.evaluation.metric}"
        return identity

    # Scores and costs ------------------------------------------------------------------------------------------------

    def problem(self, cost: CostSettings, score: Callable[[Codes], ArrayLike]) -> Problem:
        """The subnets within the limits of ``cost``, ranked by ``score``: ``score_all``'s, or a predictor's."""
        guides = {"latency_ms": "macs"} if self._looked_up is None else {}
        return Problem(self.coding, score, self._costs, cost.limits, cost.minimize, guides)

    def generator(self, purpose: str) -> np.random.Generator:
        """The randomness of one part of a search, by its seed."""
        return np.random.default_rng(list(f"{purpose} {self.seed}".encode()))

    def score_all(
        self,
        archs: Sequence[Arch],
        source: str,
        with_latency: bool = False,
        scored: Callable[[tuple[float, ...]], object] = lambda key: None,
    ) -> list[tuple[float, ...]]:
        """The keys to compare ``archs`` by, higher is better; those are evaluated that are not on record.

        Args:
            source: what the record calls them.
            scored: called with the key of each.
        """
        # The store may hold some of a batch that was stopped, whom halving has to see again to decide about the others.
        known = self.store.scores if self._halving is None else self._decided
        unknown = [arch for arch in archs if arch not in known]
        for arch in archs:
            if arch in known:
                scored(self.key(self.store.scores[arch]))
        for arch, found in (self._halving or self.evaluator).scores(unknown):
            if arch not in self.store.scores:
                self._record(source, arch, found, with_latency)
            self._decided.add(arch)
            scored(self.key(found))
        self.store.arrange(archs)
        return [self.key(self.store.scores[arch]) for arch in archs]

    def _record(self, source: str, arch: Arch, score: Score, with_latency: bool) -> None:
        if not math.isfinite(score.loss):
            log.warning(
                "the loss of %s is %s: its activations overflow, and it is ranked last", arch.to_json(), score.loss
            )
        cost = self.costs.cost(arch)
        latency = self.latency(arch) if with_latency else None
        self.store.record(source, arch, score, cost.macs, cost.params, latency)

    def key(self, score: Score) -> tuple[float, ...]:
        """The measure that is ranked by, higher is better; the other one breaks ties. With successive halving, whoever was
        scored on more images comes first. A network whose loss is no finite number is last by either measure.
        """
        is_finite = math.isfinite(score.loss)
        accuracy, minus_loss = (score.accuracy, -score.loss) if is_finite else (-math.inf, -math.inf)
        ordered = (accuracy, minus_loss) if self.evaluation.metric == "accuracy" else (minus_loss, accuracy)
        return ordered if self.evaluation.halving_images is None else (score.num_images, *ordered)

    def ranked(self, archs: Iterable[Arch]) -> list[Arch]:
        """Scored candidates by their keys, the best first."""
        return sorted(archs, key=lambda arch: self.key(self.store.scores[arch]), reverse=True)

    def is_whole(self, arch: Arch) -> bool:
        """Whether a scored candidate was scored on all held-out images."""
        return self.store.scores[arch].num_images == len(self.evaluator.held_out.images)

    @property
    def _costs(self) -> dict[str, Callable[[Codes], ArrayLike]]:
        """Each cost by name as a function of codes."""
        timed = self._time if self._looked_up is None else self._looked_up.latencies_of
        return {**self.costs.functions, "latency_ms": timed}

    def costs_of(self, archs: Iterable[Arch], name: str) -> list[float]:
        """What each of ``archs`` costs: ``"macs"``, ``"params"`` or ``"latency_ms"``."""
        values: list[float] = np.asarray(self._costs[name](self.coding.encode(archs)), dtype=np.float64).tolist()
        return values

    def latency(self, arch: Arch) -> float:
        """Milliseconds from the table, or measured once on this machine."""
        if self._looked_up is not None:
            return self._looked_up.latency(arch)
        known = self.store.latency(arch, self._conditions)
        if known is None:
            known = self._measure(arch)
            self.store.add_latency(arch, self._conditions, known)
        return known

    def _time(self, codes: Codes) -> list[float]:
        return [self.latency(arch) for arch in self.coding.decode(codes)]

    def _measure(self, arch: Arch) -> float:
        settings = self.cost
        latency = measure_latency(
            self.trained.supernet.extract(arch),
            self.space.input_shape(arch),
            batch=settings.latency_batch,
            threads=settings.latency_threads,
            device=settings.latency_device,
            warmup=settings.latency_warmup,
            repeats=settings.latency_repeats,
        )
        self.latency_conditions = latency.describe()
        return latency.median_ms

    # What is told about them -----------------------------------------------------------------------------------------

    def describe(self, arch: Arch) -> str:
        """One line about a scored candidate."""
        score, cost = self.store.scores[arch], self.costs.cost(arch)
        return (
            f"accuracy {score.accuracy:.4f}, loss {score.loss:.4f}, {cost.macs / 1e6:.2f}M MACs, "
            f"{cost.params / 1e6:.2f}M params"
        )

    def candidate(self, arch: Arch) -> report.Candidate:
        """A scored candidate for the report; its latency only where that is known."""
        score, cost = self.store.scores[arch], self.costs.cost(arch)
        known = self.store.latency(arch, self._conditions)
        latency = known if self._looked_up is None else self._looked_up.latency(arch)
        return report.Candidate(arch.to_dict(), score.accuracy, score.loss, cost.macs, cost.params, latency)

    def card(self, arch: Arch) -> dict[str, Any]:
        """What a file of a scored candidate says about it."""
        chosen = self.candidate(arch)
        return {
            "macs": chosen.macs,
            "params": chosen.params,
            "latency_ms": chosen.latency_ms,
            "held_out_accuracy": chosen.accuracy,
            "held_out_loss": chosen.loss,
            "held_out_images": self.store.scores[arch].num_images,
            **self.data.card(),
            "input_shape": list(self.space.input_shape(arch)),
            "supernet": str(self.trained.folder_of(arch)),
        }

    def save(self, folder: Path, arch: Arch) -> None:
        """Writes ``subnet.pt``, ``subnet.json`` and ``architecture.svg`` of a scored candidate to ``folder``, and ``cell-*.svg``
        and ``cell-*.dot`` (Graphviz) where it has cells.
        """
        save_subnet(
            folder / "subnet.pt",
            self.space,
            arch,
            self.evaluator.subnet(arch),
            self.config,
            self.card(arch),
            self.data.record,
        )
        drawing = report.architecture_svg(blocks_of(self.costs, arch))
        write_text(folder / "architecture.svg", drawing)
        for graph in graphs_of(self.space, arch):
            write_text(folder / f"cell-{graph.name}.svg", report.graph_svg(graph))
            write_text(folder / f"cell-{graph.name}.dot", report.graph_dot(graph))


def blocks_of(costs: CostTable, arch: Arch) -> list[report.Block]:
    """The network's blocks for the report, each with the options of the choices that belong to it."""
    blocks = []
    for cost in costs.blocks(arch):
        prefix = f"{cost.name}."
        options = {name.removeprefix(prefix): value for name, value in arch.items() if name.startswith(prefix)}
        options |= {
            name.rpartition(".")[2]: value for name, value in arch.items() if cost.name in (name, f"{name}.{value}")
        }
        blocks.append(report.Block(options=options, **vars(cost)))
    return blocks


def graphs_of(space: SearchSpace, arch: Arch) -> list[report.Graph]:
    """The cells of ``arch`` for the report; none in a space of plain chains."""
    graphs = space.graphs(arch) if isinstance(space, HasCells) else {}
    return [report.Graph(name, graph.nodes, graph.edges) for name, graph in graphs.items()]
