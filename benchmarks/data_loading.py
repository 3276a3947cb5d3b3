"""Images a second and memory of a folder that is decoded batch by batch, beside timm's own loader and beside images in memory.

    python benchmarks/data_loading.py FOLDER [--size 224] [--workers 2] [--batch 64] [--images 1024] [--rounds 5] [--side N]
    python benchmarks/data_loading.py FOLDER --train [the same]

FOLDER holds a folder of images for each class, as timm and ``data=image_folder`` read it. All three give crops of 8 % to 100 % of
the area, resized by bicubic interpolation, mirrored at random and normalised, as float32 batches: ``timm.data.create_loader`` as
it is; a set that does not fit ``data.memory_limit_gb``; and the same set in memory. They take turns, each in a process of its own
with the same number of workers. Printed are images a second by the clock in a second pass, the processor's milliseconds an image
in the process and in all its workers, and the largest memory of the process and of a worker. ``--side`` makes the photographs
larger or smaller first, to that shorter side.

``--train`` trains the smallest network of ``ofa`` on one thread, from files and from memory, and says images a second of that, in
the second of two epochs. Where each process has a core of its own, the two differ only by what workers take longer than a step,
and by the first batch of an epoch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oneshot.data import Augmentation, ImageData, augment, image_folder, prepare
from oneshot.spaces import OFAMobileNetV3
from oneshot.training import RunPart, SubnetTask, Trainer, TrainSettings

AUGMENTATION = Augmentation(crop_scale=(0.08, 1.0), horizontal_flip=True, crop_ratio=(3 / 4, 4 / 3))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIMITS_GB = {"from files": 0.0, "in memory": 1e3}


class Measured(NamedTuple):
    """Of one pass over the images."""

    images_per_second: float
    own_milliseconds: float
    worker_milliseconds: float
    own_megabytes: float
    worker_megabytes: float


def timm_batches(folder: str, args: argparse.Namespace) -> Callable[[], Iterator[Tensor]]:
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=folder, is_training=True),
        input_size=(3, args.size, args.size),
        batch_size=args.batch,
        is_training=True,
        scale=AUGMENTATION.crop_scale,
        ratio=AUGMENTATION.crop_ratio,
        hflip=0.5,
        color_jitter=None,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        device=torch.device("cpu"),
    )
    return lambda: (images for images, _ in loader)


def own_data(folder: str, args: argparse.Namespace, limit_gb: float) -> ImageData:
    return image_folder(
        folder,
        image_size=args.size,
        held_out=len(os.listdir(folder)),
        test=len(os.listdir(folder)),
        mean=MEAN,
        std=STD,
        augmentation=AUGMENTATION,
        memory_limit_gb=limit_gb,
        num_workers=args.workers,
    )


def own_batches(folder: str, args: argparse.Namespace, limit_gb: float) -> Callable[[], Iterator[Tensor]]:
    data = own_data(folder, args, limit_gb)

    def batches() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(data.train), generator=generator)
        asked = order[: len(order) // args.batch * args.batch].split(args.batch)
        generators = [torch.Generator().manual_seed(step) for step in range(len(asked))]
        for images, _ in data.train.training_batches(asked, AUGMENTATION, generators):
            yield prepare(augment(images, AUGMENTATION, generator), args.size, MEAN, STD)

    return batches


def read(kind: str, folder: str, args: argparse.Namespace, ended: Callable[[int], None]) -> None:
    """Two passes over the images."""
    batches = timm_batches(folder, args) if kind == "timm" else own_batches(folder, args, LIMITS_GB[kind])
    for _ in range(2):
        count = 0
        for images in batches():
            assert images.shape[1:] == (3, args.size, args.size)
            assert images.dtype == torch.float32
            count += len(images)
        ended(count)


def train(kind: str, folder: str, args: argparse.Namespace, ended: Callable[[int], None]) -> None:
    """Two epochs."""
    data = own_data(folder, args, LIMITS_GB[kind])
    space = OFAMobileNetV3(num_classes=len(data.classes), resolutions=(args.size,))
    settings = TrainSettings(epochs=2, batch_size=args.batch, lr=0.01, device="cpu", threads=1, eval_every=1)
    task = SubnetTask(space.network(space.smallest).train(), space.smallest, args.size)

    def evaluate(module: nn.Module) -> dict[str, float]:
        ended(len(data.train) // args.batch * args.batch)
        return {}

    with tempfile.TemporaryDirectory() as run:
        Trainer(task, data, settings, RunPart(Path(run), {"config": {}}), evaluate).run()


def measure(kind: str, folder: str, args: argparse.Namespace, answer: Connection) -> None:
    """Two passes, of which the second counts; workers stay, so that their time is known when they have ended."""
    torch.set_num_threads(1)
    passes: list[tuple[float, float, float]] = []

    def ended(count: int) -> None:
        passes.append((time.perf_counter(), time.process_time(), _of_children()))
        if len(passes) < 2:
            return
        elapsed, spent, spent_by_workers = (after - before for before, after in zip(*passes, strict=True))
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        workers = [_peak_megabytes(child.pid or 0) for child in multiprocessing.active_children()]
        times = 1e3 * spent / count, 1e3 * spent_by_workers / count
        answer.send(Measured(count / elapsed, *times, own, max(workers, default=0.0)))

    (train if args.train else read)(kind, folder, args, ended)


def _of_children() -> float:
    """The processor's seconds of the workers so far."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def some_images(root: Path, folder: Path, args: argparse.Namespace) -> None:
    """So many images of all classes alike as links, or resized."""
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    files = [sorted(path for path in one.iterdir() if path.is_file()) for one in classes]
    each = -(-args.images // len(classes))
    for one, found in zip(classes, files, strict=True):
        (folder / one.name).mkdir()
        for path in found[:each]:
            if args.side is None:
                (folder / one.name / path.name).symlink_to(path.resolve())
                continue
            from PIL import Image

            with Image.open(path) as image:
                scale = args.side / min(image.size)
                size = (round(scale * image.width), round(scale * image.height))
                image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
                    folder / one.name / f"{path.stem}.jpg", quality=90
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=None)
    parser.add_argument("--train", action="store_true")
    args = parser.parse_args()
    spawning = multiprocessing.get_context("spawn")
    kinds = [*([] if args.train else ["timm"]), *LIMITS_GB]
    found: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        some_images(args.folder, Path(folder), args)
        for number in range(args.rounds):
            for kind in kinds:
                receive, send = spawning.Pipe(duplex=False)
                process = spawning.Process(target=measure, args=(kind, folder, args, send))
                process.start()
                send.close()
                found[kind].append(receive.recv())
                process.join()
            load = os.getloadavg()[0]
            print(
                f"round {number + 1}, load {load:.1f}: "
                + ", ".join(f"{kind} {found[kind][-1].images_per_second:.0f} images/s" for kind in kinds),
                flush=True,
            )
    for kind in kinds:
        speeds, times, worker_times, own, workers = zip(*found[kind], strict=True)
        print(
            f"{kind:10}: {statistics.median(speeds):6.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f}), "
            f"{statistics.median(times):.2f} ms of processor an image ({min(times):.2f} to {max(times):.2f}) and "
            f"{statistics.median(worker_times):.2f} of the workers, {max(own):.0f} MB, a worker {max(workers):.0f} MB"
        )
    pairs = zip(found["from files"], found["in memory"], strict=True)
    ratios = [files.images_per_second / memory.images_per_second for files, memory in pairs]
    print(f"from files / in memory: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
