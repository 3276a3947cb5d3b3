"""Search a trained supernet: candidates scored with inherited weights, the best one kept, and the report."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import CostSettings, CostTable, measure_latency
from oneshot.data import ImageData
from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline.folders import Trained, save_subnet, write_json
from oneshot.pipeline.journal import Journal, Latencies
from oneshot.search import Problem, RandomSearch, Strategy, pareto_front
from oneshot.training import resolve_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSettings:
    """How candidates are scored.

    Args:
        metric: "accuracy" (ties broken by loss) or "loss" (ties by accuracy).
        calibration_images: training images on which each candidate's BatchNorm statistics are measured.
        max_images: held-out images to score on, drawn at random; None is all.
        batch_size: images a forward pass.
        device: "auto", "cpu", "cuda", ...
        threads: CPU threads; None leaves torch's own choice.
        channels_last: memory format of the images.
    """

    metric: str = "accuracy"
    calibration_images: int = 512
    max_images: int | None = None
    batch_size: int = 256
    device: str = "auto"
    threads: int | None = None
    channels_last: bool = True

    def __post_init__(self) -> None:
        if self.metric not in ("accuracy", "loss"):
            raise ValueError(f"evaluation.metric is 'accuracy' or 'loss', not {self.metric!r}")
        for name in ("calibration_images", "batch_size", "max_images", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"evaluation.{name} is at least 1, not {value}")


class _OnDemand(Mapping[str, float]):
    """Values computed when they are read: an architecture over its MACs limit is never timed."""

    def __init__(self, values: Mapping[str, Callable[[], float]]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> float:
        return self._values[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class SupernetSearch:
    """One search in one folder; run again in the same folder, it continues where it was stopped.

    Args:
        trained: the supernet to rank with.
        folder: gets ``candidates.csv``, ``pareto.json``, ``subnet.pt``, ``subnet.json``, ``architecture.svg``, ``report.html``.
        seed: of the strategy and of the calibration images.
        config: plain values kept with the best subnet (how to load its data again).
    """

    def __init__(
        self,
        trained: Trained,
        data: ImageData,
        strategy: Strategy,
        cost: CostSettings,
        evaluation: EvaluationSettings,
        folder: Path,
        seed: int,
        config: Mapping[str, Any],
    ) -> None:
        if evaluation.threads is not None:
            torch.set_num_threads(evaluation.threads)
        self.trained, self.data, self.strategy = trained, data, strategy
        self.cost, self.evaluation, self.folder, self.seed, self.config = cost, evaluation, folder, seed, config
        self.space = trained.supernet.space
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
        )
        self._claim_folder()
        self.costs = CostTable(self.space)
        self.journal = Journal(folder / "candidates.csv", self.space)
        conditions = f"{cost.latency_device.replace(':', '')}-batch{cost.latency_batch}-threads{cost.latency_threads}"
        self.latencies = Latencies(folder / f"latencies-{conditions}.csv", self.space, self._measure)
        self._latency_conditions = ""
        self._best: tuple[float, ...] | None = None

    def _claim_folder(self) -> None:
        """Scores of another supernet, or scored otherwise, must not be mixed with this search's."""
        identity = {
            "supernet": self.trained.fingerprint,
            "data": self.data.name,
            "seed": self.seed,
            "calibration_images": self.evaluation.calibration_images,
            "held_out_images": len(self.evaluator.held_out.images),
        }
        path = self.folder / "search.json"
        if path.is_file():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            changed = [
                f"{name} was {earlier.get(name)} and is {value}"
                for name, value in identity.items()
                if earlier.get(name) != value
            ]
            if changed:
                raise ValueError(f"{self.folder} holds another search ({'; '.join(changed)}); use another folder")
        write_json(path, identity)

    def run(self) -> Arch:
        """Searches, runs the random baseline at equal budget, writes the results, and returns the best architecture.

        Raises:
            ValueError: no architecture of the space meets the limits; the message gives the range that it can reach.
        """
        started = time.monotonic()
        problem, baseline = self._problem("search"), self._problem("random")
        if self.cost.needs_latency:
            log.info(
                "every candidate is timed on this machine: latency measured in other company is noise, so leave it alone"
            )
        problem.check()
        with tqdm(total=2 * self.strategy.budget, desc="search", unit="net", disable=None) as self._bar:
            best = self.strategy.search(problem, random.Random(f"search {self.seed}"))
            log.info("best so far: %s; now random search at equal budget", self._describe(best))
            self._best = None
            budget = len(problem.evaluated)
            random_best = RandomSearch(num_samples=budget).search(baseline, random.Random(f"baseline {self.seed}"))
        log.info(
            "best: %s; random search with %d candidates: %s", self._describe(best), budget, self._describe(random_best)
        )
        self._write(problem, baseline, best, time.monotonic() - started)
        return best

    # Scoring ---------------------------------------------------------------------------------------------------------

    def _problem(self, source: str) -> Problem:
        def score(archs: Sequence[Arch]) -> list[tuple[float, ...]]:
            found: list[tuple[float, ...]] = []
            for arch in archs:
                if arch not in self.journal.scores:
                    cost = self.costs.cost(arch)
                    latency = self.latencies(arch) if self.cost.needs_latency else None
                    self.journal.add(source, arch, self.evaluator(arch), cost.macs, cost.params, latency)
                key = self._key(self.journal.scores[arch])
                found.append(key)
                self._best = key if self._best is None else max(self._best, key)
                self._bar.update()
                self._bar.set_postfix_str(
                    f"{source}, best {self.evaluation.metric} {abs(self._best[0]):.4f}", refresh=False
                )
            return found

        return Problem(self.space, score, self._costs_of, self.cost.limits, self.cost.minimize, {"latency_ms": "macs"})

    def _key(self, score: Score) -> tuple[float, float]:
        """Higher is better; the other measure breaks ties."""
        pair = (score.accuracy, -score.loss)
        return pair if self.evaluation.metric == "accuracy" else pair[::-1]

    def _costs_of(self, arch: Arch) -> Mapping[str, float]:
        cost = self.costs.cost(arch)
        values = {"macs": lambda: float(cost.macs), "params": lambda: float(cost.params)}
        if self.cost.needs_latency:
            values["latency_ms"] = lambda: self.latencies(arch)
        return _OnDemand(values)

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
        self._latency_conditions = latency.describe()
        return latency.median_ms

    def _describe(self, arch: Arch) -> str:
        score, cost = self.journal.scores[arch], self.costs.cost(arch)
        return (
            f"accuracy {score.accuracy:.4f}, loss {score.loss:.4f}, {cost.macs / 1e6:.2f}M MACs, "
            f"{cost.params / 1e6:.2f}M params"
        )

    # Results ---------------------------------------------------------------------------------------------------------

    def _candidate(self, arch: Arch) -> report.Candidate:
        score, cost = self.journal.scores[arch], self.costs.cost(arch)
        latency = self.latencies.known([arch]).get(arch)
        return report.Candidate(arch.to_dict(), score.accuracy, score.loss, cost.macs, cost.params, latency)

    def _write(self, problem: Problem, baseline: Problem, best: Arch, seconds: float) -> None:
        archs = list(problem.evaluated)
        candidates = [self._candidate(arch) for arch in archs]
        accuracy = self.evaluation.metric == "accuracy"
        scores = [candidate.accuracy if accuracy else -candidate.loss for candidate in candidates]
        front = pareto_front(scores, [problem.cost_of(arch) for arch in archs])
        write_json(
            self.folder / "pareto.json",
            [vars(candidates[i]) | {"arch": dict(candidates[i].arch), "index": i} for i in front],
        )
        chosen = candidates[archs.index(best)]
        card = {
            "macs": chosen.macs,
            "params": chosen.params,
            "latency_ms": chosen.latency_ms,
            "held_out_accuracy": chosen.accuracy,
            "held_out_loss": chosen.loss,
            "held_out_images": self.journal.scores[best].num_images,
            "classes": list(self.data.classes),
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "input_shape": list(self.space.input_shape(best)),
            "supernet": str(self.trained.folder),
        }
        save_subnet(self.folder / "subnet.pt", self.space, best, self.evaluator.subnet(best), self.config, card)
        blocks = [self._block(best, block.__dict__) for block in self.costs.blocks(best)]
        (self.folder / "architecture.svg").write_text(report.architecture_svg(blocks), encoding="utf-8")
        report.write_search_report(
            self.folder / "report.html",
            report.SearchReport(
                title=f"{type(self.space).__name__} on {self.data.name}",
                space=type(self.space).__name__,
                data=self.data.name,
                strategy=type(self.strategy).__name__,
                metric="accuracy" if accuracy else "loss",
                cost=self.cost.minimize,  # type: ignore[arg-type]
                limits={f"max_{name}": limit for name, limit in self.cost.limits.items()},
                candidates=candidates,
                baseline=[self._candidate(arch) for arch in baseline.evaluated],
                front=front,
                best=archs.index(best),
                blocks=blocks,
                facts=self._facts(best, seconds),
                notes=self._notes(candidates, chosen),
            ),
        )

    def _block(self, arch: Arch, cost: Mapping[str, Any]) -> report.Block:
        prefix = f"{cost['name']}."
        options = {name.removeprefix(prefix): value for name, value in arch.items() if name.startswith(prefix)}
        options |= {
            name.rpartition(".")[2]: value for name, value in arch.items() if cost["name"] in (name, f"{name}.{value}")
        }
        return report.Block(options=options, **cost)

    def _facts(self, best: Arch, seconds: float) -> dict[str, str]:
        facts = {
            "space": f"{self.space.size:.3g} networks",
            "supernet": f"{self.trained.folder.name}, step {self.trained.step} of {self.trained.total_steps}",
            "held-out images": str(self.journal.scores[best].num_images),
            "calibration images": str(len(self.evaluator.calibration.images)),
            "input": "x".join(map(str, self.space.input_shape(best))),
            "seed": str(self.seed),
            "time of this run": f"{seconds:.0f} s",
            "torch": str(torch.__version__),
        }
        if self._latency_conditions:
            facts["latency, last measured"] = self._latency_conditions
        return facts

    def _notes(self, candidates: Sequence[report.Candidate], chosen: report.Candidate) -> list[str]:
        """How far the ranking can be trusted, from the size of the held-out set."""
        images = self.evaluator.held_out.images
        error = (max(chosen.accuracy * (1 - chosen.accuracy), 0.25 / len(images)) / len(images)) ** 0.5
        close = sum(candidate.accuracy >= chosen.accuracy - 2 * error for candidate in candidates)
        notes = [
            f"With {len(images)} held-out images the best accuracy is known to about ±{100 * error:.1f} points (one standard "
            f"error); {close} of {len(candidates)} candidates lie within two of it.",
            "Accuracies are those of inherited weights with recalibrated BatchNorm statistics: good for ranking, below what "
            "retraining reaches. The best of many candidates is also a little lucky; the test set decides, after retraining.",
        ]
        if self.trained.step < self.trained.total_steps:
            notes.append(f"The supernet is not fully trained: step {self.trained.step} of {self.trained.total_steps}.")
        return notes
