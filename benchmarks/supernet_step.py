"""A training step of ``supernet(x, arch)``, of another architecture each time, against the extracted static networks'.

    python benchmarks/supernet_step.py [--spaces ofa spos nasbench_macro] [--archs 8] [--repeats 15] [--threads 1]

Steps are what training does: forward, backward, clipping, the optimizer's step and clearing of gradients, with the weights in
channels_last. Architectures take turns; for each, supernet and static network step one after the other on the same images, in
random order. On one thread of a CPU times are those of the processor, so other work on the machine counts less. Printed per space
and batch: supernet / static without and with clipping and optimizer (median of each architecture's paired ratios, then the median
over the random architectures with the least and the greatest, and that of the smallest and the largest subnet), what
clipping and optimizer take, and the peak memory of one step of each.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, SearchSpace, SPOSShuffleNetV2
from oneshot.supernet import Supernet
from oneshot.training import TrainSettings
from oneshot.training.optimization import clip_gradients, make_optimizer

SPACES: dict[str, Callable[..., SearchSpace]] = {
    "ofa": OFAMobileNetV3,
    "spos": SPOSShuffleNetV2,
    "nasbench_macro": NASBenchMacro,
}
BATCHES = ((16, 64), (64, 32))


class Stepper:
    """A network as it is trained.

    Args:
        module: with the parameters.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module, self.device = module, device
        self.parameters = list(module.parameters())
        self.settings = TrainSettings(lr=1e-4)
        self.optimizer = make_optimizer(module, self.settings, self.settings.lr, device)

    def __call__(self, *inputs: object) -> tuple[float, float]:
        """Milliseconds of a step's forward, backward and clearing, and of its clipping and optimizer."""
        start = self._now()
        self.module(*inputs).logsumexp(1).sum().backward()
        trained = self._now()
        clip_gradients(self.parameters, self.settings)
        self.optimizer.step()
        updated = self._now()
        self.optimizer.zero_grad()
        return 1e3 * (trained - start + self._now() - updated), 1e3 * (updated - trained)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.thread_time() if self.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def peak_mib(action: Callable[[], object], device: torch.device) -> float:
    """Peak of the tensors' memory that ``action`` adds to what is held before it, in MiB, as torch's allocators report it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    recorded: Any = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded if event.name() == "[memory]")
    most: float = max(itertools.accumulate((size for _, size in changes), initial=0)) / 2**20
    return most


@dataclass(frozen=True)
class Times:
    """Milliseconds of each step of one architecture: without and with clipping and optimizer."""

    supernet: list[tuple[float, float]]
    static: list[tuple[float, float]]

    def ratio(self, with_update: bool) -> float:
        """The median of the paired ratios."""
        count = 1 + with_update
        pairs = zip(self.supernet, self.static, strict=True)
        return statistics.median(sum(one[:count]) / sum(two[:count]) for one, two in pairs)

    def least(self) -> float:
        """The least time of a supernet's step over that of a static one."""
        return min(one for one, _ in self.supernet) / min(one for one, _ in self.static)


def compare(supernet: Supernet, archs: list[Arch], x: Tensor, repeats: int, rng: random.Random) -> list[Times]:
    """Times of the steps of each architecture, which take turns."""
    shared = Stepper(supernet, x.device)
    own = [Stepper(supernet.extract(arch), x.device) for arch in archs]
    times = [Times([], []) for _ in archs]
    for repeat in range(repeats + 2):
        for index in rng.sample(range(len(archs)), len(archs)):
            runs = [
                (times[index].supernet, partial(shared, x, archs[index])),
                (times[index].static, partial(own[index], x)),
            ]
            for kept, run in rng.sample(runs, 2):
                taken = run()
                if repeat >= 2:
                    kept.append(taken)
    return times


def benchmark(name: str, space: SearchSpace, batch: int, resolution: int, args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    supernet = Supernet(space).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = random.Random(args.seed)
    x = torch.randn(batch, 3, resolution, resolution, device=device).to(memory_format=torch.channels_last)
    archs = [*(space.sample(rng) for _ in range(args.archs)), space.smallest, space.largest]
    *drawn, smallest, largest = compare(supernet, archs, x, args.repeats, rng)
    updates = [
        statistics.median(update for times in drawn for _, update in getattr(times, kind))
        for kind in ("supernet", "static")
    ]
    peaks = []
    for module, inputs in ((supernet, (x, space.largest)), (supernet.extract(space.largest), (x,))):
        stepper = Stepper(module, device)
        stepper(*inputs)  # momentum, and memory that is kept, are not this step's
        peaks.append(peak_mib(partial(stepper, *inputs), device))
    for label, with_update in (("forward, backward, clearing", False), ("whole step", True)):
        ratios = [times.ratio(with_update) for times in drawn]
        print(
            f"{name:15s} {batch:3d}x{resolution}px  {label:27s} median {statistics.median(ratios):.3f} "
            f"[{min(ratios):.3f}, {max(ratios):.3f}] of {args.archs} archs  smallest {smallest.ratio(with_update):.3f}  "
            f"largest {largest.ratio(with_update):.3f}"
        )
    least = statistics.median(times.least() for times in drawn)
    static = statistics.median(first for times in drawn for first, _ in times.static)
    print(
        f"{'':26s} least times: median {least:.3f}, smallest {smallest.least():.3f}, largest {largest.least():.3f}; static "
        f"{static:.1f} ms; clipping and optimizer: supernet {updates[0]:.1f} ms, static {updates[1]:.1f} ms; peak MiB: supernet "
        f"{peaks[0]:.0f}, static {peaks[1]:.0f}",
        flush=True,
    )


def extraction(name: str, space: SearchSpace, args: argparse.Namespace) -> None:
    supernet = Supernet(space)
    rng = random.Random(args.seed)
    times = []
    for _ in range(30):
        arch = space.sample(rng)
        start = time.thread_time()
        supernet.extract(arch)
        times.append(1e3 * (time.thread_time() - start))
    print(
        f"{name:15s} extract  median {statistics.median(times):.1f} ms  least {min(times):.1f} ms  (each a new architecture)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--archs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), channels_last, {args.repeats} pairs an architecture"
    )
    for name in args.spaces:
        extraction(name, SPACES[name](num_classes=10), args)
        for batch, resolution in BATCHES:
            benchmark(name, SPACES[name](num_classes=10), batch, resolution, args)


if __name__ == "__main__":
    main()
