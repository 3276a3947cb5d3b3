"""Images a second of the trainer on a supernet, against a bare loop of static networks on the same images.

    python benchmarks/training_loop.py [--steps 40] [--batch 64] [--resolution 32] [--archs 4]

The trainer draws one of a few architectures of ``ofa`` a step; the bare loop trains the extracted network of that architecture:
augmentation, normalisation, forward, backward, clipping and the same optimizer, and nothing else. Both run in this process,
in turn, each twice; the times are those of the processor on one thread, so other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
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
    """The architectures take turns; remembers when each was asked for."""

    def __init__(self, space: SearchSpace, archs: list[Arch]) -> None:
        super().__init__(space)
        self.archs = archs
        self.asked: list[float] = []

    def sample(self, step: int) -> list[Arch]:
        self.asked.append(time.thread_time())
        return [self.archs[step % len(self.archs)]]


def train(supernet: Supernet, archs: list[Arch], data: ImageData, settings: TrainSettings) -> list[float]:
    """When each step of the trainer began, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        sampler = Turns(supernet.space, archs)
        task = SupernetTask(supernet, sampler, settings.label_smoothing)
        Trainer(task, data, settings, RunPart(Path(folder), {"config": {}}), lambda module: {}).run()
    return sampler.asked


def train_bare(networks: list[nn.Module], data: ImageData, settings: TrainSettings) -> list[float]:
    """When each step of the bare loop began, in seconds."""
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    optimizers = [make_optimizer(network, settings, settings.lr, torch.device("cpu")) for network in networks]
    parameters = [list(network.parameters()) for network in networks]
    generator = torch.Generator().manual_seed(0)
    started: list[float] = []
    for _ in range(settings.epochs):
        batches = torch.randperm(len(data.train), generator=generator).split(settings.batch_size)
        for images, labels in data.train.batches(batches):
            index = len(started) % len(networks)
            inputs = prepare(augment(images, data.augmentation, generator), data.image_size, data.mean, data.std)
            started.append(time.thread_time())
            criterion(networks[index](inputs), labels).backward()
            clip_gradients(parameters[index], settings)
            optimizers[index].step()
            optimizers[index].zero_grad()
    return started


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
        supernet = Supernet(space)
        networks = [supernet.extract(arch).train().to(memory_format=torch.channels_last) for arch in archs]
        speeds = []
        for times in (train(supernet, archs, data, settings), train_bare(networks, data, settings)):
            # The median over rounds of all architectures: what disturbs one is left out.
            rounds = [end - start for start, end in zip(times, times[args.archs :], strict=False)]
            speeds.append(args.batch * args.archs / statistics.median(rounds[args.archs :]))
        print(
            f"run {repeat + 1}: trainer {speeds[0]:.0f} images/s, bare loop {speeds[1]:.0f}, ratio {speeds[0] / speeds[1]:.3f} "
            f"({args.steps} steps of {args.batch} x {args.resolution} px, {args.archs} architectures of ofa)",
            flush=True,
        )


if __name__ == "__main__":
    main()
