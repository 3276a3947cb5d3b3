"""Scores of many candidates with shared work (``Evaluator.scores``) against one by one, in time and bit for bit.

    python benchmarks/shared_evaluation.py [--cases macro evolution] [--num 6561] [--sample 300] [--channels 32]

``macro`` ranks NAS-Bench-Macro's networks with random weights on random images; the slow side is measured on a random sample,
spread evenly over the fast side's run, and extrapolated. ``evolution`` scores a generation of a search over Once-for-All's space
and over NAS-Bench-Macro's: 50 mutations of 10 parents, both sides in turn. Printed: seconds, the speed-up beside the bound that
the MACs set (those of all candidates over those of the calls that differ), the peak of what is kept and of the process.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.data import Augmentation, ImageData, TensorImages
from oneshot.evaluation import Evaluator, Score, ScoreSettings
from oneshot.evaluation.merging import MergedGraph
from oneshot.evaluation.shared import SharedEvaluation
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, SearchSpace
from oneshot.spaces.coding import Coding
from oneshot.supernet import Supernet


def random_images(number: int, size: int, num_classes: int, seed: int) -> TensorImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (number, 3, size, size), generator=generator, dtype=torch.uint8)
    return TensorImages(pixels, torch.randint(num_classes, (number,), generator=generator))


def make_evaluator(space: SearchSpace, args: argparse.Namespace) -> Evaluator:
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    supernet = Supernet(space).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    size, num_classes = space.max_resolution, space.num_classes
    data = ImageData(
        name="random",
        train=random_images(args.calibration_images, size, num_classes, 1),
        held_out=random_images(args.held_out_images, size, num_classes, 2),
        test=random_images(2, size, num_classes, 3),
        classes=tuple(map(str, range(num_classes))),
        image_size=size,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        augmentation=Augmentation(),
    )
    settings = ScoreSettings(args.calibration_images, batch_size=args.batch_size, memory_limit_gb=args.memory_limit)
    return Evaluator(supernet, data, settings, device=device)


def shared_evaluation(evaluator: Evaluator) -> SharedEvaluation:
    assert isinstance(evaluator.supernet, Supernet)
    return SharedEvaluation(
        evaluator.supernet, evaluator.calibration, evaluator.held_out, evaluator, evaluator.memory_limit
    )


def macs_bound(evaluator: Evaluator, archs: Sequence[Arch]) -> tuple[float, float]:
    """GMACs of an image through all ``archs``, and through the calls that differ among them."""
    assert isinstance(evaluator.supernet, Supernet)
    costs, graph = CostTable(evaluator.supernet.space), MergedGraph(evaluator.supernet)
    total, distinct = 0, {}
    for arch in archs:
        trace = graph.trace(arch)
        assert trace is not None
        calls = [node for node in trace.nodes if node.operation and node.operation.block]
        for node, block in zip(calls, (row for row in costs.blocks(arch) if row.name), strict=True):
            total += block.macs
            distinct[node] = block.macs
    return total / 1e9, sum(distinct.values()) / 1e9


def timed(scores: Iterator[tuple[Arch, Score]]) -> Iterator[tuple[Arch, Score, float]]:
    """Each score with the seconds that it took."""
    while True:
        start = time.perf_counter()
        pair = next(scores, None)
        if pair is None:
            return
        yield (*pair, time.perf_counter() - start)


def ranking(args: argparse.Namespace) -> None:
    space = NASBenchMacro(resolution=args.resolution, channels=args.channels, head_channels=40 * args.channels)
    evaluator = make_evaluator(space, args)
    rng = random.Random(args.seed)
    archs = list(space.enumerate())
    archs = archs if args.num >= len(archs) else rng.sample(archs, args.num)
    sample = rng.sample(archs, min(args.sample, len(archs)))
    total, distinct = macs_bound(evaluator, archs)
    evaluator(sample[0])
    shared = shared_evaluation(evaluator)
    found: dict[Arch, Score] = {}
    slow: dict[Arch, Score] = {}
    fast_seconds, slow_seconds = 0.0, []
    for arch, score, seconds in timed(shared.scores(archs)):
        found[arch] = score
        fast_seconds += seconds
        while len(slow) * len(archs) < len(found) * len(sample):
            start = time.perf_counter()
            slow[sample[len(slow)]] = evaluator(sample[len(slow)])
            slow_seconds.append(time.perf_counter() - start)
    equal = sum(found[arch] == score for arch, score in slow.items())
    one_by_one = statistics.mean(slow_seconds) * len(archs)
    error = statistics.stdev(slow_seconds) / len(slow_seconds) ** 0.5 * len(archs) if len(slow_seconds) > 1 else 0.0
    print(
        f"macro: {len(archs)} networks, {args.channels} channels, {args.resolution} pixels, {args.calibration_images} "
        f"calibration and {args.held_out_images} held-out images, {torch.get_num_threads()} threads, {args.device}\n"
        f"  shared {fast_seconds:.0f} s; one by one {one_by_one:.0f} s, extrapolated from {len(slow)} (standard error "
        f"{error:.0f} s)\n"
        f"  speed-up {one_by_one / fast_seconds:.2f}; bound of the MACs {total / distinct:.2f} ({total:.1f} against "
        f"{distinct:.1f} GMACs an image)\n"
        f"  {equal} of {len(slow)} scores equal bit for bit; kept at most {shared.store.peak_bytes / 2**20:.0f} MiB of "
        f"{evaluator.memory_limit / 2**20:.0f}, process {peak_mib():.0f} MiB",
        flush=True,
    )


def generation(name: str, space: SearchSpace, args: argparse.Namespace) -> None:
    evaluator = make_evaluator(space, args)
    rng = random.Random(args.seed)
    coding, generator = Coding(space), np.random.default_rng(args.seed)
    codes = coding.encode([space.sample(rng) for _ in range(10)])
    archs: list[Arch] = []
    while len(archs) < 50:
        (child,) = coding.decode(coding.mutate(codes[[rng.randrange(10)]], 0.1, generator))
        archs += [child] if child not in archs else []
    total, distinct = macs_bound(evaluator, archs)
    evaluator.score_all(archs[:2])
    shared = shared_evaluation(evaluator)
    ratios, equal = [], True
    for repeat in range(args.repeats):
        seconds = {}
        scores = {}
        for side in ("shared", "one by one") if repeat % 2 else ("one by one", "shared"):
            start = time.perf_counter()
            scores[side] = dict(shared.scores(archs)) if side == "shared" else {arch: evaluator(arch) for arch in archs}
            seconds[side] = time.perf_counter() - start
        equal &= scores["shared"] == scores["one by one"]
        ratios.append(seconds["one by one"] / seconds["shared"])
        print(f"  {seconds['shared']:.1f} s shared, {seconds['one by one']:.1f} s one by one", flush=True)
    print(
        f"generation of 50, {name}: speed-up {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]; bound of "
        f"the MACs {total / distinct:.2f}; equal bit for bit: {equal}; kept at most {shared.store.peak_bytes / 2**20:.0f} MiB, "
        f"process {peak_mib():.0f} MiB",
        flush=True,
    )


def peak_mib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=("macro", "evolution"), default=["macro", "evolution"])
    parser.add_argument("--num", type=int, default=6561, help="networks to rank")
    parser.add_argument("--sample", type=int, default=300, help="networks scored one by one")
    parser.add_argument("--channels", type=int, default=32, help="of the stem; published 32")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--held-out-images", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--memory-limit", type=float, default=2.0, help="GiB that are kept for later candidates")
    parser.add_argument("--repeats", type=int, default=3, help="of each side of a generation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if "macro" in args.cases:
        ranking(args)
    if "evolution" in args.cases:
        macro = NASBenchMacro(resolution=args.resolution, channels=args.channels, head_channels=40 * args.channels)
        generation("nasbench_macro", macro, args)
        resolutions = [2 * args.resolution, 3 * args.resolution]
        generation("ofa", OFAMobileNetV3(num_classes=10, resolutions=resolutions), args)


if __name__ == "__main__":
    main()
