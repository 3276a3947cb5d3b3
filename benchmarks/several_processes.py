"""Two processes of one thread each against one, in training and in a search.

    python benchmarks/several_processes.py [--space ofa] [--size 64] [--batch 16] [--steps 6] [--rounds 5] [--candidates 200]
                                           [--images 360]

Training: the supernet's steps, random architectures, the same images a step and process (so twice the batch on two).
Search: seconds for candidates of NAS-Bench-Macro, drawn at random, with random weights. Rounds of one process, of two, and of two
apart, which do the same at the same time and share nothing, take turns: no two processes of a run are faster than those, whose
cores share caches and memory. Printed are each round's ratios and their medians. Seconds are those of a clock, good for a quiet
machine only, whose load is printed, and those of a core, of two processes the busier one's, which do not count what others do,
nor what waiting costs.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn

from oneshot.data import Augmentation, ImageData, TensorImages
from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.processes import count, gathered, is_first, joined, wait
from oneshot.samplers import UniformSampler
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import RunPart, SupernetTask, Trainer, TrainSettings
from oneshot.training.tasks import StepResult

CPU = torch.device("cpu")
Seconds = tuple[float, float]


def make_data(space: SearchSpace, size: int, num_train: int, num_held_out: int = 2) -> ImageData:
    def images(number: int, seed: int) -> TensorImages:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(256, (number, 3, size, size), generator=generator, dtype=torch.uint8)
        return TensorImages(pixels, torch.randint(space.num_classes, (number,), generator=generator))

    classes = tuple(map(str, range(space.num_classes)))
    half = (0.5, 0.5, 0.5)
    return ImageData(
        "random", images(num_train, 1), images(num_held_out, 2), images(2, 3), classes, size, half, half, Augmentation()
    )


class Clock:
    """Seconds of the clock and of a core, since the beginning."""

    def __init__(self) -> None:
        self._start = self._now()

    def __call__(self) -> Seconds:
        clock, core = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return clock, max(gathered(core))

    def _now(self) -> Seconds:
        return time.perf_counter(), time.process_time()


def train(args: argparse.Namespace) -> Seconds:
    """Seconds of all steps but the first."""
    space = OFAMobileNetV3(num_classes=10, resolutions=(args.size,)) if args.space == "ofa" else NASBenchMacro(10)
    batch = args.batch * count()
    data = make_data(space, args.size, batch * (args.steps + 2))
    settings = TrainSettings(
        epochs=1, batch_size=batch, device="cpu", log_every=10**6, eval_every=0, checkpoint_seconds=10**6
    )
    task = SupernetTask(Supernet(space), UniformSampler(space))
    clocks: list[Clock] = []
    step = task.step

    def timed(*given: Any) -> StepResult:
        found = step(*given)
        if not clocks:
            clocks.append(Clock())
        return found

    task.step = timed  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder:
        Trainer(task, data, settings, RunPart(Path(folder), {"config": {}}), lambda module: {}).run()
    return clocks[0]()


def search(args: argparse.Namespace) -> Seconds:
    """Seconds for all candidates."""
    space = NASBenchMacro(10)
    torch.manual_seed(0)
    evaluator = Evaluator(
        Supernet(space).eval(), make_data(space, 32, args.images, args.images), ScoreSettings(args.images), device=CPU
    )
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(args.candidates)]
    evaluator(archs[0])
    wait()
    clock = Clock()
    evaluator.score_all(archs)
    return clock()


def work(rank: int, number: int, ports: Sequence[int], args: argparse.Namespace, answers: SimpleQueue[Seconds]) -> None:
    port = ports[0]
    if len(ports) > 1:  # apart
        rank, number, port = 0, 1, ports[rank]
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in here.items()}
    torch.set_num_threads(1)
    with joined():
        found = (train if args.what == "train" else search)(args)
        if is_first():
            answers.put(found)


def run(number: int, args: argparse.Namespace, apart: bool = False) -> Seconds:
    with contextlib.ExitStack() as opened:
        free = [opened.enter_context(socket.socket()) for _ in range(number if apart else 1)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    answers: SimpleQueue[Seconds] = multiprocessing.get_context("spawn").SimpleQueue()
    spawn(work, (number, ports, args, answers), nprocs=number)
    clocks, cores = zip(*(answers.get() for _ in ports), strict=True)
    return max(clocks), max(cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", default=["train", "search"], choices=["train", "search"])
    parser.add_argument("--space", default="ofa", choices=["ofa", "nasbench_macro"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument(
        "--images", type=int, default=360, help="that a candidate is measured on, and as many that it is scored on"
    )
    args = parser.parse_args()
    for what in args.what:
        args.what, ratios = what, list[tuple[float, ...]]()
        for _ in range(args.rounds):
            one, two, apart = run(1, args), run(2, args), run(2, args, apart=True)
            times = 2 if what == "train" else 1  # the images of a step
            clock, core = (times * alone / shared for alone, shared in zip(one, two, strict=True))
            bound = 2 * one[0] / apart[0]
            ratios.append((clock, core, bound))
            print(
                f"{what}: {one[0]:.1f} s by the clock and {one[1]:.1f} by a core on one process, {two[0]:.1f} and {two[1]:.1f} "
                f"on two: {clock:.2f} and {core:.2f} times as fast; apart {bound:.2f} (load {os.getloadavg()[0]:.1f})",
                flush=True,
            )
        clock, core, bound = (statistics.median(found) for found in zip(*ratios, strict=True))
        print(
            f"{what}: median of {args.rounds} rounds: {clock:.2f} by the clock, {core:.2f} by the core; two apart {bound:.2f} by "
            "the clock"
        )


if __name__ == "__main__":
    main()
