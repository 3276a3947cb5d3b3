"""Once-for-All's space on one GPU: is it right there, how fast does it train, search and resume, and what does compiling bring.

    sh benchmarks/gpu.sh [--parts checks train search resume compile] [--batch 256] [--rounds 3] [--archs 20]

checks: the supernet equals its extracted networks bit for bit, shared scores those of one by one, and images are prepared as on
the CPU. train: images/s and peak memory in bfloat16 at 224 px of the training loop with all that belongs to it, of the bare loop
of static networks, and of the supernet of the published code where ``ofa`` is installed, in the layout of images and weights that
the others have and in that of its own training scripts, in turns. All go through the same random architectures, one a step, and
get their batches in the same way; the first time, which is not counted, cuDNN gets to know their layers. The training loop
forgets each architecture before it comes again. search: a generation of 50 mutations of 10 parents. resume: six steps against
three and three, bit for bit, with trainer.deterministic. compile: a static network eager and compiled, and what the supernet's
blocks compile to.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.data import Augmentation, ImageData, TensorImages, prepare
from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.processes import share_of
from oneshot.samplers import UniformSampler
from oneshot.spaces import OFAMobileNetV3
from oneshot.spaces.coding import Coding
from oneshot.supernet import Supernet
from oneshot.training import RunPart, SupernetTask, Trainer, TrainSettings, load_newest
from oneshot.training.batches import training_batches

HALF = (0.5, 0.5, 0.5)


class Bench:
    """The settings and what all parts use."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.tiny: bool = args.tiny
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.size = 32 if args.tiny else 224
        self.batch: int = 4 if args.tiny else args.batch
        self.rounds: int = 1 if args.tiny else args.rounds
        self.classes = 10 if args.tiny else 1000
        width = 0.25 if args.tiny else 1.2
        self.space = OFAMobileNetV3(num_classes=self.classes, resolutions=(self.size,), width_multiplier=width)
        rng = random.Random(2)
        self.archs = [self.space.sample(rng) for _ in range(3 if args.tiny else args.archs)]
        self.data = ImageData(
            "random", self._images(16 * self.batch, 1), self._images(64 if args.tiny else 2048, 2), self._images(2, 3),
            tuple(map(str, range(self.classes))), self.size, HALF, HALF, Augmentation(horizontal_flip=True),
        )  # fmt: skip

    def _images(self, number: int, seed: int) -> TensorImages:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(256, (number, 3, self.size, self.size), generator=generator, dtype=torch.uint8)
        return TensorImages(pixels, torch.randint(self.classes, (number,), generator=generator))

    def supernet(self) -> Supernet:
        torch.manual_seed(0)
        return Supernet(self.space).to(self.device)

    def settings(self, **changes: Any) -> TrainSettings:
        values: dict[str, Any] = {
            "epochs": 1,
            "batch_size": self.batch,
            "device": str(self.device),
            "amp_dtype": "bfloat16",
            "lr": 0.01,
        }
        return TrainSettings(**values | {"log_every": 1000, "eval_every": 0, "checkpoint_seconds": 1e6} | changes)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self, action: Callable[[], object]) -> str:
        if self.device.type != "cuda":
            action()
            return "peak memory unknown"
        torch.cuda.reset_peak_memory_stats(self.device)
        action()
        return f"peak memory {torch.cuda.max_memory_allocated(self.device) / 2**30:.2f} GiB"


def checks(bench: Bench) -> None:
    supernet, rng = bench.supernet(), random.Random(1)
    archs = [bench.space.largest, bench.space.smallest, *(bench.space.sample(rng) for _ in range(4))]
    images = torch.randn(4, 3, bench.size, bench.size, device=bench.device)
    with torch.no_grad():
        equal = [bool((supernet.eval()(images, arch) == supernet.extract(arch).eval()(images)).all()) for arch in archs]
    print(f"checks: supernet equals the extracted network bit for bit: {sum(equal)} of {len(equal)}")
    evaluator = Evaluator(supernet, bench.data, ScoreSettings(64), device=bench.device)
    alone, shared = [evaluator(arch) for arch in archs], evaluator.score_all(archs)
    print(
        f"checks: shared scores equal those of one by one: {sum(map(lambda a, b: a == b, alone, shared))} of {len(archs)}"
    )
    pixels = bench.data.train.images[:4]  # type: ignore[attr-defined]
    here, there = (prepare(pixels.to(place), bench.size // 2, HALF, HALF).cpu() for place in ("cpu", bench.device))
    print(
        f"checks: prepared images differ from the CPU's by at most {127.5 * float((here - there).abs().max()):.2f} levels"
    )


def train(bench: Bench) -> None:
    loops = {"training loop": loop_of_trainer(bench), "static networks": loop_of_static(bench)}
    if (published := published_supernet(bench)) is not None:
        loops["published supernet in channels_last"] = loop_of_published(bench, published, torch.channels_last)
        loops["published supernet in its own layout"] = loop_of_published(bench, copy.deepcopy(published))
    steps = len(bench.archs)
    for name, loop in loops.items():
        start = time.perf_counter()
        peak = bench.peak(partial(run, loop, steps))
        bench.synchronize()
        per_step = 1000 * (time.perf_counter() - start) / steps
        print(f"train: {name}: {peak}; the first time, with what cuDNN prepares, {per_step:.0f} ms a step")
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(bench.rounds):
        for name, loop in loops.items():
            speeds[name].append(steps * bench.batch / timed(bench, partial(run, loop, steps)))
    for name, found in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["training loop"], found, strict=True)]
        print(
            f"train: {name}: {statistics.median(found):.0f} images/s ({min(found):.0f} to {max(found):.0f}); training loop / "
            f"{name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def run(loop: Iterator[None], steps: int) -> None:
    for _ in range(steps):
        next(loop)


def timed(bench: Bench, action: Callable[[], object]) -> float:
    bench.synchronize()
    start = time.perf_counter()
    action()
    bench.synchronize()
    return time.perf_counter() - start


class InTurn(UniformSampler):
    """The same architectures again and again."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.space)
        self._archs = bench.archs

    def sample(self, step: int) -> list[Arch]:
        return [self._archs[step % len(self._archs)]]


def loop_of_trainer(bench: Bench) -> Iterator[None]:
    """One step of the real loop, each time."""
    import queue
    import threading

    go, done = queue.Queue[None](), queue.Queue[None]()
    settings = bench.settings(epochs=10**4)
    supernet = bench.supernet()
    task = SupernetTask(supernet, InTurn(bench), settings.label_smoothing)
    step = task.step

    def waiting(*given: Any) -> Any:
        done.put(None)
        go.get()
        supernet._networks.clear()  # as if each architecture were a new one
        return step(*given)

    task.step = waiting  # type: ignore[method-assign, assignment]
    folder = tempfile.mkdtemp()
    trainer = Trainer(task, bench.data, settings, RunPart(Path(folder), {"config": {}}), lambda module: {})
    threading.Thread(target=trainer.run, daemon=True).start()
    done.get()
    while True:
        go.put(None)
        done.get()
        yield


def loop_of_static(bench: Bench) -> Iterator[None]:
    """Extracted networks, a bare loop with the same optimizer, clipping and images."""
    supernet = bench.supernet()
    networks = [supernet.extract(arch).train() for arch in bench.archs]
    yield from bare_loop(bench, [(network, network) for network in networks])


def published_supernet(bench: Bench) -> Any:
    """The supernet of Once-for-All's published code (MIT); None where that is not installed."""
    try:
        from ofa.imagenet_classification.elastic_nn.networks import (  # type: ignore[import-not-found]
            OFAMobileNetV3 as Published,
        )
    except ImportError as error:
        print(f"train: the published code is not installed ({error}): pip install --no-deps ofa")
        return None
    width = 0.25 if bench.tiny else 1.2
    network = Published(
        n_classes=bench.classes, width_mult=width, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    return network.to(bench.device).train()


def loop_of_published(
    bench: Bench, network: Any, layout: torch.memory_format = torch.contiguous_format
) -> Iterator[None]:
    """Its supernet; the layout of images and weights that its training scripts leave as it is, or another."""
    loop = bare_loop(bench, [(network, network)], layout)
    for arch in itertools.cycle(bench.archs):
        blocks = [f"stage{stage}.block{block}" for stage in range(1, 6) for block in range(1, 5)]
        network.set_active_subnet(
            ks=[arch.get(f"{block}.kernel", 3) for block in blocks],
            e=[arch.get(f"{block}.expand", 3) for block in blocks],
            d=[arch[f"stage{stage}.depth"] for stage in range(1, 6)],
        )
        yield next(loop)


def bare_loop(
    bench: Bench,
    networks: list[tuple[nn.Module, Callable[[Tensor], Tensor]]],
    layout: torch.memory_format = torch.channels_last,
) -> Iterator[None]:
    """A step of each network in turn, and nothing that a step does not need."""
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    trained = [(forward, list(module.to(memory_format=layout).parameters())) for module, forward in networks]
    optimizers = [
        torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=4e-5)
        for _, parameters in trained
    ]
    settings, steps = bench.settings(epochs=10**4), range(10**4)
    batches = training_batches(bench.data, settings, share_of(bench.batch), steps, bench.device)
    for step, (images, labels) in enumerate(batches):
        (forward, parameters), optimizer = trained[step % len(trained)], optimizers[step % len(trained)]
        with torch.autocast(bench.device.type, dtype=torch.bfloat16):
            loss = criterion(forward(prepare(images, bench.size, HALF, HALF, memory_format=layout)), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def search(bench: Bench) -> None:
    supernet, rng, generator = bench.supernet(), random.Random(3), np.random.default_rng(3)
    coding = Coding(bench.space)
    parents = coding.encode([bench.space.sample(rng) for _ in range(10)])
    chosen = parents[generator.integers(10, size=6 if bench.tiny else 50)]
    archs = coding.decode(coding.mutate(chosen, 0.1, generator))
    for name, limit in (("one by one", 0.0), ("shared", 8.0)):
        settings = ScoreSettings(64 if bench.tiny else 512, batch_size=256, memory_limit_gb=limit)
        evaluator = Evaluator(supernet.eval(), bench.data, settings, device=bench.device)
        evaluator(archs[0])
        bench.synchronize()
        start = time.perf_counter()
        peak = bench.peak(partial(evaluator.score_all, archs))
        print(f"search: {len({*archs})} networks {name}: {time.perf_counter() - start:.1f} s; {peak}")


def resume(bench: Bench) -> None:
    def run(folder: Path, stop_at: int | None) -> None:
        task = SupernetTask(bench.supernet(), UniformSampler(bench.space))
        part = RunPart(folder, {"config": {}})
        trainer = Trainer(task, bench.data, bench.settings(deterministic=True, epochs=1), part, lambda module: {})
        step = task.step

        def stopping(images: Tensor, labels: Tensor, number: int, engine: Any) -> Any:
            if number + 1 == stop_at:
                trainer._request_stop()
            return step(images, labels, number, engine)

        task.step = stopping  # type: ignore[method-assign, assignment]
        trainer.run()

    with tempfile.TemporaryDirectory() as root:
        whole, parts = Path(root) / "whole", Path(root) / "parts"
        run(whole, None)
        try:
            run(parts, 6)
        except KeyboardInterrupt:
            run(parts, None)
        states = [load_newest(folder / "checkpoints") for folder in (whole, parts)]
        assert states[0] is not None
        assert states[1] is not None
        equal = [torch.equal(value, states[1]["model"][name]) for name, value in states[0]["model"].items()]
        print(f"resume: {sum(equal)} of {len(equal)} tensors are those of an undisturbed run, bit for bit")


def compiled(bench: Bench) -> None:
    from torch._dynamo.utils import counters

    supernet, rng = bench.supernet(), random.Random(4)
    network = supernet.extract(bench.space.sample(rng)).train()
    loops = {
        "eager": bare_loop(bench, [(network, network)]),
        "compiled": bare_loop(
            bench, [(network, torch.compile(network, backend="aot_eager" if bench.tiny else "inductor"))]
        ),
    }
    for name, loop in loops.items():
        start = time.perf_counter()
        for _ in range(3):
            next(loop)
        bench.synchronize()
        first, start, steps = time.perf_counter() - start, time.perf_counter(), 10 if not bench.tiny else 2
        for _ in range(steps):
            next(loop)
        bench.synchronize()
        speed = steps * bench.batch / (time.perf_counter() - start)
        print(f"compile: one static network, {name}: {speed:.0f} images/s, first three steps {first:.1f} s")
    counters.clear()
    torch._dynamo.reset()
    images = torch.randn(4, 3, bench.size, bench.size, device=bench.device)
    run = torch.compile(lambda x, arch: supernet(x, arch), backend="eager")
    for _ in range(4):
        run(images, bench.space.sample(rng))
    graphs = counters["stats"].get("unique_graphs", 0)
    print(
        f"compile: the supernet called with 4 architectures is traced into {graphs} graphs (a recompilation for each new one)"
    )


PARTS = {"checks": checks, "train": train, "search": search, "resume": resume, "compile": compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3, help="of the loops that are compared")
    parser.add_argument("--archs", type=int, default=20, help="random architectures that they go through")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    bench = Bench(args)
    name = (
        torch.cuda.get_device_name(bench.device)
        if bench.device.type == "cuda"
        else "no GPU: these figures mean nothing"
    )
    print(f"torch {torch.__version__}, {name}, {bench.size} px, batches of {bench.batch}", flush=True)
    started = time.perf_counter()
    for part in args.parts:
        try:
            PARTS[part](bench)
        except Exception as error:  # one part that fails leaves the others to be seen
            print(f"{part}: FAILED: {type(error).__name__}: {error}")
        print(f"({part} ended after {time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
