"""Forward+backward of ``supernet(x, arch)`` against the extracted static network of the same architecture.

    python benchmarks/supernet_step.py [--spaces ofa spos nasbench_macro] [--archs 8] [--repeats 15] [--threads 1]

Both run in this process, in turn, on the same images with weights of the same memory format (channels_last); the order within a
pair alternates. Printed per space and batch: the ratio supernet / static over the architectures (median of each architecture's
paired ratios), the smallest and the largest subnet's ratio, the static network's time, and the peak memory of one step of each.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, SearchSpace, SPOSShuffleNetV2
from oneshot.supernet import Supernet

SPACES: dict[str, Callable[..., SearchSpace]] = {
    "ofa": OFAMobileNetV3,
    "spos": SPOSShuffleNetV2,
    "nasbench_macro": NASBenchMacro,
}
BATCHES = ((16, 64), (64, 32))


def step(run: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], x: Tensor, device: torch.device) -> float:
    """Milliseconds of one forward and backward, gradients starting from None as after an optimizer's step."""
    for parameter in parameters:
        parameter.grad = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run(x).logsumexp(1).sum().backward()  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - start)


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
    recorded = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded if event.name() == "[memory]")
    return max(itertools.accumulate((size for _, size in changes), initial=0)) / 2**20


def compare(supernet: Supernet, arch: Arch, x: Tensor, repeats: int) -> tuple[list[float], list[float]]:
    """Paired ratios supernet / static of ``repeats`` interleaved steps, and the static network's milliseconds."""
    static = supernet.extract(arch)
    shared, own = list(supernet.parameters()), list(static.parameters())

    def run_supernet() -> float:
        return step(lambda images: supernet(images, arch), shared, x, x.device)

    def run_static() -> float:
        return step(static, own, x, x.device)

    ratios, times = [], []
    for repeat in range(repeats + 3):
        first, second = (run_supernet, run_static) if repeat % 2 else (run_static, run_supernet)
        one, two = first(), second()
        dynamic, fixed = (one, two) if repeat % 2 else (two, one)
        if repeat >= 3:
            ratios.append(dynamic / fixed)
            times.append(fixed)
    return ratios, times


def benchmark(name: str, space: SearchSpace, batch: int, resolution: int, args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    supernet = Supernet(space).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = random.Random(args.seed)
    x = torch.randn(batch, 3, resolution, resolution, device=device).to(memory_format=torch.channels_last)
    medians, all_times = [], []
    for _ in range(args.archs):
        ratios, times = compare(supernet, space.sample(rng), x, args.repeats)
        medians.append(statistics.median(ratios))
        all_times.append(statistics.median(times))
    ends = {}
    for label, arch in (("smallest", space.smallest), ("largest", space.largest)):
        ratios, times = compare(supernet, arch, x, args.repeats)
        quarter = statistics.quantiles(ratios, n=4)
        ends[label] = f"{label} {statistics.median(ratios):.3f} [{quarter[0]:.3f}, {quarter[2]:.3f}]"
    static = supernet.extract(space.largest)
    shared, own = list(supernet.parameters()), list(static.parameters())
    for network in (supernet, static):  # gradients of earlier steps are not this step's memory
        network.zero_grad()
    dynamic_peak = peak_mib(lambda: step(lambda i: supernet(i, space.largest), shared, x, device), device)
    supernet.zero_grad()
    static_peak = peak_mib(lambda: step(static, own, x, device), device)
    print(
        f"{name:15s} {batch:3d}x{resolution}px  ratio median {statistics.median(medians):.3f} "
        f"[{min(medians):.3f}, {max(medians):.3f}] of {args.archs} archs  {ends['smallest']}  {ends['largest']}  "
        f"static {statistics.median(all_times):.1f} ms  peak MiB supernet {dynamic_peak:.0f} static {static_peak:.0f}",
        flush=True,
    )


def extraction(name: str, space: SearchSpace, args: argparse.Namespace) -> None:
    supernet = Supernet(space)
    rng = random.Random(args.seed)
    times = []
    for _ in range(30):
        arch = space.sample(rng)
        start = time.perf_counter()
        supernet.extract(arch)
        times.append(1e3 * (time.perf_counter() - start))
    print(
        f"{name:15s} extract  median {statistics.median(times):.1f} ms  max {max(times):.1f} ms  (each a new architecture)"
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
