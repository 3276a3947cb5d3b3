"""A family of networks from one with trained weights, beside what else gives a network of as many multiply-accumulates.

    python benchmarks/pretrained_family.py tf_efficientnet_lite0 tf_efficientnet_lite0.pt clothing --size 128 --seed 0

The family is what `train_supernet.py` makes of the weights and `search_subnet.py` finds under each limit on held-out images, as
it is found, and trained on a little by `retrain_subnet.py`. Beside it, at each limit: random networks of the same supernet; the
fine-tuned original trained on at a smaller input size; and the original narrowed by Torch-Pruning, if that is installed, and
trained on. These learn from the original as the found networks do on their own (random ones with --train-random), each with
as much training as the family and its found networks had for every limit. All are scored on the test images, which nothing else
has seen.

A row of JSON for each network goes to ``--out``; what is there already is not done again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from oneshot.arch import Arch
from oneshot.batch_norm import Statistics
from oneshot.config import make_data, make_sampler
from oneshot.costs import CostTable
from oneshot.data import ImageData, Recorded
from oneshot.evaluation import Batches, Evaluator
from oneshot.evaluation.paired import image_scores, lead_of_first
from oneshot.pipeline.folders import Trained, load_subnet, load_supernet
from oneshot.pipeline.search_settings import EvaluationSettings
from oneshot.spaces.base import SearchSpace
from oneshot.training import (
    Distillation,
    PhaseSettings,
    RunPart,
    SubnetTask,
    Trainer,
    TrainSettings,
    batches_of,
    plan_phases,
)

ROOT = Path(__file__).resolve().parents[1]
LIMITS = (75, 50, 35, 25)  # percent of the original's multiply-accumulates
PASSES = 3  # the cost of a training step in forward passes


def count_macs(module: nn.Module, size: int) -> int:
    """Multiply-accumulates of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(module).cpu().eval()(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def own_seconds(who: int) -> float:
    """Processor time of this process or of the programs that it has started."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@dataclass
class Comparison:
    """One network, data set and seed: what is measured and where it is kept.

    Attributes:
        folder: of rows.jsonl, and of an array for each network that says which test images it gets right.
    """

    options: argparse.Namespace
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "rows.jsonl"
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        self.rows = {row["name"]: row for row in map(json.loads, lines)}

    def add(self, name: str, **values: Any) -> None:
        """Keeps a row and prints it."""
        self.rows[name] = {"name": name, **values}
        with self.file.open("a") as file:
            file.write(json.dumps(self.rows[name]) + "\n")
        print(json.dumps(self.rows[name]), flush=True)

    def program(self, name: str, script: str, *arguments: str) -> None:
        """Runs one of the programs, or continues it, unless its row says that it is finished."""
        if name in self.rows:
            return
        words = [sys.executable, str(ROOT / script), *arguments, f"run={self.folder / name}"]
        print(" ".join(words), flush=True)
        before = own_seconds(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True)
        self.add(name, seconds=own_seconds(resource.RUSAGE_CHILDREN) - before)

    def score(self, name: str, module: nn.Module, size: int, data: ImageData, **values: Any) -> None:
        """Keeps what a network scores on the test images, and its cost."""
        macs = count_macs(module, size)
        device = torch.device(self.options.device)
        module = module.eval().to(device).to(memory_format=torch.channels_last)
        correct, losses = image_scores(module, Batches(data.test, data, 256, device).at(size))
        np.save(self.folder / f"{name.replace(' ', '-')}.npy", correct)
        self.add(name, size=size, macs=macs, test=correct.mean(), test_loss=losses.mean(), **values)

    def correct(self, name: str) -> Any:
        """Which test images a network gets right."""
        return np.load(self.folder / f"{name.replace(' ', '-')}.npy")


def cost_after_fine_tuning(trained: Trained, data: ImageData, settings: TrainSettings, original: int) -> float:
    """What the part of the training after the fine-tuning cost, in training steps of the original network."""
    config, space = trained.config, trained.supernet.space
    given = {name: PhaseSettings(**values) for name, values in config["phases"].items()}
    phases = plan_phases(given, space, config["trainer"]["epochs"])
    costs, total, step = CostTable(space), 0.0, 0
    steps_per_epoch = batches_of(data, settings)[1]
    for phase in phases.values():
        stop = step + steps_per_epoch * phase.epochs
        if phase.distill:
            part = phase.restrict(space)
            changes = {} if phase.num_paths is None else {"num_paths": phase.num_paths}
            sampler = make_sampler(config["sampler"], part, config["seed"], **changes)
            for number in range(step, stop):
                total += sum(costs.cost(arch).macs for arch in sampler.sample(number)) / original + 1 / PASSES
        step = stop
    return total


def train(
    compared: Comparison,
    name: str,
    make: Callable[[], tuple[nn.Module, int]],
    teacher: tuple[nn.Module, int],
    data: ImageData,
    share: float,
    settings: TrainSettings,
    distillation: Distillation,
    statistics: Statistics,
) -> None:
    """Trains one network for its share of the family's training, in whole epochs and at least that, and scores it."""
    if name in compared.rows:
        return
    module, size = make()
    module.to(memory_format=torch.channels_last)
    cost = count_macs(module, size) / count_macs(*teacher) + 1 / PASSES
    epochs = max(1, math.ceil(share / cost / batches_of(data, settings)[1]))
    started = own_seconds(resource.RUSAGE_SELF)
    arch = Arch({"network": name})
    task = SubnetTask(
        module, arch, size, settings.label_smoothing, teacher=teacher, distillation=distillation, statistics=statistics
    )
    part = RunPart(compared.folder / name.replace(" ", "-"), {"config": {"name": name}})
    settings = replace(settings, epochs=epochs, eval_every=0, device=compared.options.device)
    trainer = Trainer(task, data, settings, part, lambda network: {})
    trained = trainer.run()
    seconds = own_seconds(resource.RUSAGE_SELF) - started
    compared.score(name, trained, size, data, epochs=epochs, seconds=seconds)


def smaller_size(module: nn.Module, size: int, macs: float) -> int:
    """The largest input size, in steps of 4 pixels, at which ``module`` has no more than ``macs``."""
    return max(pixels for pixels in range(8, size + 1, 4) if count_macs(module, pixels) <= macs)


def pruned(module: nn.Module, size: int, macs: float) -> nn.Module:
    """``module`` narrowed by Torch-Pruning as its documentation has it: equal shares of every layer by the norm of its groups,
    widths in multiples of 8, the classifier's outputs kept.
    """
    import torch_pruning as tp  # type: ignore[import-not-found]

    network, example = copy.deepcopy(module).cpu().eval(), torch.randn(1, 3, size, size)
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    pruner = tp.pruner.BasePruner(
        network,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.95,
        iterative_steps=95,
        ignored_layers=[last],
        round_to=8,
    )
    while count_macs(network, size) > macs:
        pruner.step()
    return network


def random_archs(space: SearchSpace, macs: float, seed: int, count: int) -> list[Arch]:
    """Random architectures with at most ``macs`` and at least 95 % of them."""
    table, rng, found = CostTable(space), random.Random(f"comparison {seed}"), list[Arch]()
    while len(found) < count:
        archs = [space.sample(rng) for _ in range(256)]
        found += [
            arch
            for arch, cost in zip(archs, table.costs(archs), strict=True)
            if 0.95 * macs <= cost.macs <= macs and arch not in found
        ]
    return found[:count]


def compare(options: argparse.Namespace, folder: Path) -> Comparison:
    """Does what has not been done yet."""
    compared = Comparison(options, folder)
    compared.program(
        "family", "train_supernet.py", "+space=timm", f"space.model={options.model}", f"space.weights={options.weights}",
        "data=image_folder", f"data.root={options.data}", f"data.image_size={options.size}", f"seed={options.seed}",
        f"trainer.device={options.device}", "trainer.threads=1", *options.train,
    )  # fmt: skip
    limits = ",".join(f"{limit}%" for limit in LIMITS)
    compared.program(
        "search", "search_subnet.py", f"supernet={folder / 'family'}", f"cost.max_macs=[{limits}]",
        f"evaluation.device={options.device}", "evaluation.threads=1", *options.search,
    )  # fmt: skip
    trained = load_supernet(folder / "family")
    recorded = None if trained.record is None else Recorded(trained.record, "the family")
    data = make_data(trained.config["data"], recorded)
    teacher_file = load_subnet(folder / "family", names=("teacher.pt",))
    teacher, size = teacher_file.module().to(memory_format=torch.channels_last), teacher_file.card["input_shape"][-1]
    given = {name: value for name, value in trained.config["trainer"].items() if name != "epochs"}
    settings = TrainSettings(**given, seed=options.seed)
    phase = [PhaseSettings(**values) for values in trained.config["phases"].values()][-1]
    settings = replace(phase.apply(settings), eval_every=0, checkpoint_seconds=1e9, average_epochs=None)
    distillation = Distillation(**trained.config["distillation"])
    if "original" not in compared.rows:
        compared.score("original", teacher, size, data)
    original = compared.rows["original"]["macs"]
    total = cost_after_fine_tuning(trained, data, settings, original)
    found = sorted((folder / "search").glob("max_macs-*"), key=lambda path: -float(path.name.partition("-")[2]))
    retrained = [] if options.as_found else options.beside
    for limit, own in zip(LIMITS, found, strict=True):
        places = {f"family {limit}": own}
        if limit in retrained:
            places[f"trained on {limit}"] = folder / f"retrain-{limit}"
            compared.program(
                f"retrain-{limit}", "retrain_subnet.py", f"subnet={own}", f"trainer.device={options.device}",
                "trainer.threads=1", *options.retrain,
            )  # fmt: skip
        for name, place in places.items():
            subnet = load_subnet(place)
            if name not in compared.rows:
                pixels = subnet.card["input_shape"][-1]
                compared.score(name, subnet.module(), pixels, data, arch=dict(subnet.arch))
        if limit in retrained:
            epochs, settings = subnet.card["epochs"], replace(settings, lr=subnet.config["trainer"]["lr"])
    if retrained:  # all of them count, as others have what the family and its networks have for a limit
        costs = [compared.rows[f"family {limit}"]["macs"] / original + 1 / PASSES for limit in LIMITS]
        total += epochs * batches_of(data, settings)[1] * sum(costs)
    share = total / len(LIMITS)
    repair = trained.repair(EvaluationSettings.repair_images)
    evaluator = Evaluator(
        trained.supernet.eval(),
        data,
        device=torch.device(options.device),
        seed=options.seed,
        repair=repair,
        stored_statistics=trained.stored_statistics,
    )
    statistics: Statistics = "stored" if phase.stored_statistics else "tracked"
    alike = ((teacher, size), data, share, settings, distillation)
    for limit in options.beside:
        macs = limit / 100 * original
        for number, arch in enumerate(random_archs(trained.supernet.space, macs, options.seed, options.random)):
            pixels = trained.supernet.space.input_shape(arch)[-1]
            if (name := f"random {limit} {number}") not in compared.rows:
                compared.score(name, evaluator.subnet(arch), pixels, data, arch=dict(arch))

            def cut(arch: Arch = arch, pixels: int = pixels) -> tuple[nn.Module, int]:
                return evaluator.subnet(arch).requires_grad_(True), pixels

            if options.train_random:
                train(compared, f"random trained on {limit} {number}", cut, *alike, statistics)

        def smaller(macs: float = macs) -> tuple[nn.Module, int]:
            return copy.deepcopy(teacher).requires_grad_(True), smaller_size(teacher, size, macs)

        def narrower(macs: float = macs) -> tuple[nn.Module, int]:
            return pruned(teacher, size, macs), size

        train(compared, f"lower resolution {limit}", smaller, *alike, statistics)
        if options.prune:
            # Statistics that were stored before the cut no longer fit: these networks measure their own.
            train(compared, f"Torch-Pruning {limit}", narrower, *alike, "tracked")
    train(
        compared, "original trained on", lambda: (copy.deepcopy(teacher).requires_grad_(True), size), *alike, statistics
    )
    return compared


def table(compared: Comparison) -> list[str]:
    """Accuracies, and by how much the family leads, with the 95 % interval of a paired bootstrap over the test images."""
    rows, original = compared.rows, compared.rows["original"]
    kinds = [
        "random",
        *(["random trained on"] if compared.options.train_random else []),
        "lower resolution",
        *(["Torch-Pruning"] if compared.options.prune else []),
    ]
    lines = [
        f"original: {100 * original['test']:.1f} % at {original['size']} pixels, {original['macs'] / 1e6:.1f}M MACs; family: "
        f"{rows['family']['seconds']:.0f} s of training (fine-tuning included), {rows['search']['seconds']:.0f} s of search; "
        f"the original trained on as long as each alternative: {100 * rows['original trained on']['test']:.1f} %",
        "",
        "| limit | family | pixels | over the original | "
        + ("" if compared.options.as_found else "trained on | ")
        + " | ".join(f"{kind}; lead" for kind in kinds)
        + " |",
        "| --- " * (5 - compared.options.as_found + len(kinds)) + "|",
    ]
    for limit in LIMITS:
        found = own = compared.correct(f"family {limit}")
        trained_on = f"retrain-{limit}" in rows
        if trained_on:
            own = compared.correct(f"trained on {limit}")
        cells = [f"{limit} %", f"{100 * found.mean():.1f}", str(rows[f"family {limit}"]["size"])]
        cells.append(_lead(own, compared.correct("original"), ""))
        if not compared.options.as_found:
            cells.append(f"{100 * own.mean():.1f}, {rows[f'retrain-{limit}']['seconds']:.0f} s" if trained_on else "")
        for kind in kinds:
            names = [name for name in rows if name.startswith(f"{kind} {limit}")]
            if not names:
                cells.append("")
                continue
            other = np.mean([compared.correct(name) for name in names], axis=0)
            seconds = rows[names[0]].get("seconds")
            cells.append(_lead(own, other, f"{100 * other.mean():.1f}; ") + (f", {seconds:.0f} s" if seconds else ""))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _lead(first: Any, second: Any, before: str) -> str:
    lead = lead_of_first(np.stack([first, second]), num_resamples=10_000)[1]
    return f"{before}{100 * lead.value:+.1f} [{100 * lead.low:+.1f}, {100 * lead.high:+.1f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name of timm's")
    parser.add_argument("weights", help="their file")
    parser.add_argument("data", help="a folder of images, by class, with a test folder")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", nargs="*", default=[], help="further settings of train_supernet.py")
    parser.add_argument("--search", nargs="*", default=[], help="further settings of search_subnet.py")
    parser.add_argument("--retrain", nargs="*", default=[], help="further settings of retrain_subnet.py")
    parser.add_argument("--as-found", action="store_true", help="leave out training the found networks on")
    parser.add_argument(
        "--beside",
        type=int,
        nargs="*",
        default=LIMITS,
        choices=LIMITS,
        help="the limits under which found networks are trained on, and others",
    )
    parser.add_argument("--random", type=int, default=3, help="random networks of the supernet at each limit")
    parser.add_argument(
        "--train-random", action="store_true", help="train random networks as the others beside the family"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained_family"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        import torch_pruning  # noqa: F401
    except ImportError:
        print("Torch-Pruning is not installed (pip install torch-pruning): it is left out of the comparison")
        options.prune = False
    else:
        options.prune = True
    started = time.monotonic()
    compared = compare(options, options.out / f"{Path(options.data).name}-{options.size}-seed{options.seed}")
    print("\n".join(["", *table(compared), f"\n{time.monotonic() - started:.0f} s in all"]))


if __name__ == "__main__":
    main()
