"""Images a second of the trainer on a supernet, against a bare loop of static networks on the same images.

    python benchmarks/training_loop.py [--steps 40] [--batch 64] [--resolution 32] [--archs 4]

The trainer draws one of a few architectures of ``ofa`` a step; the bare loop trains the extracted network of that architecture:
augmentation, normalisation, forward, backward, clipping and the same optimizer, and nothing else. Both run in this process and
take turns step by step; the times are those of the processor on one thread, so other work on the machine counts less. Ratios are
of rounds, in which each architecture has its turn.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from oneshot.arch import Arch
from oneshot.data import Augmentation, ImageData, TensorImages, augment, prepare
from oneshot.samplers import Sampler
from oneshot.spaces import OFAMobileNetV3, SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import RunPart, SupernetTask, Trainer, TrainSettings
from oneshot.training.optimization import clip_gradients, make_optimizer


class Turns(Sampler):
    """The architectures take turns, and at each the bare loop takes a step, too.

    Attributes:
        times: seconds of each step of the trainer.
        bare_times: of the bare loop.
    """

    def __init__(self, space: SearchSpace, archs: list[Arch], bare: Iterator[float]) -> None:
        super().__init__(space)
        self.archs, self.bare = archs, bare
        self.times: list[float] = []
        self.bare_times: list[float] = []
        self._began: float | None = None

    def sample(self, step: int) -> list[Arch]:
        if self._began is not None:
            self.times.append(time.thread_time() - self._began)
        self.bare_times.append(next(self.bare))
        self._began = time.thread_time()
        return [self.archs[step % len(self.archs)]]


def bare_steps(networks: list[nn.Module], data: ImageData, settings: TrainSettings) -> Iterator[float]:
    """Trains the networks in turns; yields the seconds of each step."""
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    optimizers = [make_optimizer(network, settings, settings.lr, torch.device("cpu")) for network in networks]
    parameters = [list(network.parameters()) for network in networks]
    generator = torch.Generator().manual_seed(0)
    turns = itertools.cycle(range(len(networks)))
    began = time.thread_time()
    for _ in range(settings.epochs):
        batches = torch.randperm(len(data.train), generator=generator).split(settings.batch_size)
        for images, labels in data.train.batches(batches):
            index = next(turns)
            inputs = prepare(augment(images, data.augmentation, generator), data.image_size, data.mean, data.std)
            criterion(networks[index](inputs), labels).backward()
            clip_gradients(parameters[index], settings)
            optimizers[index].step()
            optimizers[index].zero_grad()
            yield time.thread_time() - began
            began = time.thread_time()


def train(supernet: Supernet, archs: list[Arch], data: ImageData, settings: TrainSettings) -> Turns:
    networks = [supernet.extract(arch).train().to(memory_format=torch.channels_last) for arch in archs]
    sampler = Turns(supernet.space, archs, bare_steps(networks, data, settings))
    with tempfile.TemporaryDirectory() as folder:
        task = SupernetTask(supernet, sampler, settings.label_smoothing)
        Trainer(task, data, settings, RunPart(Path(folder), {"config": {}}), lambda module: {}).run()
    return sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--archs", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = TensorImages(
        torch.randint(0, 256, (args.batch * args.steps // 2, 3, args.resolution, args.resolution), dtype=torch.uint8),
        torch.randint(0, 10, (args.batch * args.steps // 2,)),
    )
    classes = tuple(map(str, range(10)))
    data = ImageData("noise", images, images, images, classes, args.resolution, (0.5,) * 3, (0.25,) * 3, Augmentation())
    settings = TrainSettings(epochs=2, batch_size=args.batch, lr=0.01, device="cpu", threads=1, eval_every=0)
    space = OFAMobileNetV3(num_classes=10, resolutions=(args.resolution,))
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(args.archs)]
    for repeat in range(2):
        turns = train(Supernet(space), archs, data, settings)
        # The first round makes what later ones use again, and the last has no end.
        rounds = range(args.archs, len(turns.times) - args.archs + 1, args.archs)
        trainer, bare = (
            [sum(times[start : start + args.archs]) for start in rounds] for times in (turns.times, turns.bare_times)
        )
        speeds = [args.batch * args.archs / statistics.median(times) for times in (trainer, bare)]
        ratios = sorted(other / own for own, other in zip(trainer, bare, strict=True))
        print(
            f"run {repeat + 1}: trainer {speeds[0]:.0f} images/s, bare loop {speeds[1]:.0f}, ratio "
            f"{statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}] ({args.steps} steps of {args.batch} x "
            f"{args.resolution} px, {args.archs} architectures of ofa)",
            flush=True,
        )


if __name__ == "__main__":
    main()
