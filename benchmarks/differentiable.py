"""What search by gradient finds on NAS-Bench-Macro, beside uniform sampling with evolution, in equal processor time.

    python benchmarks/differentiable.py nas-bench-macro_cifar10.json cifar10 --seeds 0 1 2

Each method trains weights and architecture for ``--seconds`` of one core and derives; ``uniform`` trains for three fifths of that
time and searches by inherited weights in the rest. The time of a step is measured beforehand, and as many whole epochs as fit are
trained. Settings are those of the presets and their publications; a first epoch or a rate per epoch is scaled to the length of
the training. With ``--scale-rate`` the architecture's learning rate is multiplied by how many fewer epochs it has, so that the
architecture can move as far. True accuracies and ranks are looked up afterwards.

A row of JSON for each method and seed goes to ``--out``; what is there already is not done again, so a comparison that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from oneshot.arch import Arch
from oneshot.config import CONF, make_data, make_sampler, make_space, plain, settings
from oneshot.costs import CostTable
from oneshot.data import ImageData
from oneshot.pipeline.folders import load_subnet
from oneshot.pipeline.relaxed import DERIVED
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.pipeline.truth import read_truth
from oneshot.spaces.base import SearchSpace
from oneshot.training import TrainSettings

ROOT = Path(__file__).resolve().parents[1]
WARM, TIMED = 5, 25  # steps


@dataclass(frozen=True)
class Method:
    """A preset of a sampler with what its publication trains with beside ``trainer=darts``.

    Attributes:
        published_epochs: what ``first_epoch`` and ``decay`` of the preset are meant for.
        first_epoch: of ``published_epochs``, from which on the architecture learns.
        decay: of the temperature, per epoch.
    """

    settings: tuple[str, ...] = ()
    published_epochs: int = 50
    first_epoch: int = 0
    decay: float | None = None

    def scaled(self, epochs: int) -> list[str]:
        """The settings for a training of so many epochs."""
        factor = self.published_epochs / epochs
        decay = [] if self.decay is None else [f"sampler.relaxation.temperature_of.decay={self.decay * factor}"]
        return [*self.settings, f"sampler.learning.first_epoch={round(self.first_epoch / factor)}", *decay]


METHODS = {
    "darts": Method(),
    "gdas": Method(("trainer.optimizer=sgd", "trainer.weight_decay=5e-4"), 240),
    "drnas": Method(published_epochs=100),
    "proxyless": Method(published_epochs=160, first_epoch=40),
    "fair_darts": Method(("trainer.batch_size=128", "trainer.lr=0.005")),
    "snas": Method(published_epochs=150),
    "fbnet": Method(published_epochs=90, first_epoch=10, decay=0.045),
    "darts_minus": Method(),
    "darts_second_order": Method(),
    "single_darts": Method(),
    "data": Method(published_epochs=100),
}
UNIFORM = "uniform"


class Comparison:
    """The table, the images, and the rows so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.file: Path = options.out / "rows.jsonl"
        options.out.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        self.rows = {(row["method"], row["seed"]): row for row in map(json.loads, lines)}
        self.data = make_data(plain(self.config(UNIFORM, 0, 1))["data"])
        self.few = replace(self.data, held_out=self.data.held_out.subset(torch.arange(256)))
        self.space = make_space(self.config(UNIFORM, 0, 1).space, self.data)
        self.truth = read_truth(options.table, self.space).values

    def space_settings(self) -> list[str]:
        """Those of the space, the images and their preparation."""
        return ["+experiment=rank_nasbench_macro"]

    def config(self, method: str, seed: int, epochs: int, *more: str) -> DictConfig:
        """The settings of one training."""
        given = ["trainer=darts", "trainer.batch_size=64", *METHODS[method].scaled(epochs)] if method in METHODS else []
        words = [
            *self.space_settings(), f"sampler={method}", *given, f"data.root={self.options.images}",
            f"data.max_train_images={self.options.num_images}", f"trainer.epochs={epochs}", "trainer.threads=1",
            "trainer.device=cpu", "trainer.eval_every=0", f"seed={seed}", *more,
        ]  # fmt: skip
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train_supernet", overrides=words)
        if method in METHODS and self.options.scale_rate:
            config.sampler.learning.lr *= METHODS[method].published_epochs / epochs
        return config

    def train(self, config: DictConfig, data: ImageData, folder: Path) -> float:
        """Trains as ``train_supernet.py`` does; the processor time, in seconds."""
        recorded = plain(config)
        space = make_space(config.space, data)
        training = SupernetTraining(
            trainer=settings(TrainSettings, config, "trainer", seed=config.seed),
            make_sampler=lambda part, **changes: make_sampler(recorded["sampler"], part, config.seed, **changes),
            norm_affine=config.norm_affine,
            config=recorded,
        )
        started = time.process_time()
        train_supernet(space, data, training, folder)
        return time.process_time() - started

    def step_seconds(self, method: str) -> float:
        """The time of a step in which the architecture learns as often as it ever does."""
        taken = []
        for steps in (WARM, WARM, WARM + TIMED):  # the first warms up
            first = [] if method == UNIFORM else ["sampler.learning.first_epoch=0"]
            config = self.config(method, 0, 1, *first)
            count = round(steps * config.trainer.batch_size / (1 - _share(config)))
            few = replace(self.few, train=self.few.train.subset(torch.arange(count)))
            with tempfile.TemporaryDirectory() as folder:
                taken.append(self.train(config, few, Path(folder)))
        return (taken[-1] - taken[-2]) / TIMED

    def row(self, method: str, seed: int) -> None:
        """Trains, derives or searches, and keeps what was found."""
        if (method, seed) in self.rows:
            return
        options, folder = self.options, self.options.out / f"{method}-{seed}"
        step = self.step_seconds(method)
        config = self.config(method, seed, 1)
        epoch = step * round(options.num_images * (1 - _share(config))) / config.trainer.batch_size
        wanted = options.seconds * (0.6 if method == UNIFORM else 1.0)
        epochs = max(1, round(wanted / epoch))
        seconds, searching = self.train(self.config(method, seed, epochs), self.data, folder), 0.0
        if method == UNIFORM:
            searching = self.search(folder, seed, options.seconds - seconds)
            arch = load_subnet(folder / "search").arch
        else:
            arch = self.space.arch(json.loads((folder / DERIVED).read_text())["architecture"])
        row: dict[str, Any] = {"method": method, "seed": seed, "epochs": epochs, "step_ms": 1e3 * step}
        row |= {"seconds": seconds, "search_seconds": searching, **self.judged(arch, folder)}
        self.rows[method, seed] = row
        with self.file.open("a") as file:
            print(json.dumps(row), file=file)
        print(json.dumps(row), flush=True)

    def search(self, supernet: Path, seed: int, seconds: float) -> float:
        """Evolution by inherited weights; its processor time."""
        words = [
            sys.executable, str(ROOT / "search_subnet.py"), f"supernet={supernet}", "search=evolution",
            f"search.generations={max(1, round(seconds / self.options.generation_seconds))}", "evaluation.max_images=1000",
            "evaluation.threads=1", f"seed={seed}", f"run={supernet / 'search'}",
        ]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The random search beside every search is as large as the search itself and no part of the method.
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 2

    def judged(self, arch: Arch, folder: Path) -> dict[str, Any]:
        """What there is to know of the network that was found by the training in ``folder``."""
        return self.described(arch, self.truth[arch])

    def described(self, arch: Arch, accuracy: float) -> dict[str, Any]:
        """The true accuracy and rank of a network, its cost and the number of its skip connections."""
        return {
            "accuracy": 100 * accuracy,
            "rank": 1 + sum(other > accuracy for other in self.truth.values()),
            "macs": CostTable(self.space).cost(arch).macs,
            "skips": sum(option in ("identity", "skip_connect") for option in arch.values()),
            "arch": arch.to_json(),
        }

    def table(self) -> None:
        """Prints means over seeds, and what needs no training."""
        print("| method | true accuracy | true rank of 6,561 | identities of 8 | epochs | processor seconds |")
        print("| --- | --- | --- | --- | --- | --- |")
        for method in dict.fromkeys(name for name, _ in self.rows):
            rows = [row for (name, _), row in sorted(self.rows.items()) if name == method]
            accuracies = [row["accuracy"] for row in rows]
            spread = f" ± {statistics.stdev(accuracies):.2f}" if len(rows) > 1 else ""
            cells = [
                f"{statistics.mean(accuracies):.2f}{spread}",
                *(", ".join(str(row[key]) for row in rows) for key in ("rank", "skips", "epochs")),
                ", ".join(f"{row['seconds'] + row['search_seconds']:.0f}" for row in rows),
            ]
            print(f"| `{method}` | {' | '.join(cells)} |")
        values = [100 * accuracy for accuracy in self.truth.values()]
        largest = self.described(_largest(self.space), self.truth[_largest(self.space)])
        print(f"| a random network | {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} | 3,281 | | | 0 |")
        print(f"| the network of most MACs | {largest['accuracy']:.2f} | {largest['rank']} | 0 | | 0 |")


def _share(config: DictConfig) -> float:
    """The share of the training images that is the architecture's."""
    return float(config.sampler.learning.images) if "learning" in config.sampler else 0.0


def _largest(space: SearchSpace) -> Arch:
    return space.arch({choice.name: choice.options[-1] for choice in space.choices})


def main(
    make: type[Comparison] = Comparison,
    description: str | None = __doc__,
    spaces: tuple[str, ...] = ("nasbench_macro",),
) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("images", type=Path, help="CIFAR-10 as an image folder")
    parser.add_argument("--space", default=spaces[0], choices=spaces)
    parser.add_argument("--methods", nargs="+", default=[UNIFORM, *METHODS], choices=[UNIFORM, *METHODS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="processor time of a method")
    parser.add_argument(
        "--scale-rate", action="store_true", help="larger steps of the architecture in a shorter training"
    )
    parser.add_argument("--num-images", type=int, default=20000, help="training images")
    parser.add_argument("--generation-seconds", type=float, default=5.0, help="of a generation of 50 networks")
    parser.add_argument("--out", type=Path, default=Path("runs/differentiable"), help="another one for other settings")
    options = parser.parse_args()
    options.table, options.images, options.out = (
        path.resolve() for path in (options.table, options.images, options.out)
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(1)
    comparison = make(options)
    for seed in options.seeds:
        for method in options.methods:
            comparison.row(method, seed)
    comparison.table()


if __name__ == "__main__":
    main()
