"""All images that the sources of one data set have, whichever set they end in."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oneshot.data import digests
from oneshot.data.decoding import num_available_cores
from oneshot.data.images import ImageSource
from oneshot.data.record import SETS
from oneshot.processes import add_up, count, gathered, part_of
from oneshot.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

_CHUNK = 64  # images per task
_LOGGER = logging.getLogger(__name__)


class JoinedSource(ImageSource):
    """Several sources one after another, with labels of their own."""

    def __init__(self, sources: Sequence[ImageSource], labels: Tensor) -> None:
        """Joins the sources; ``labels`` are those of all their images."""
        self.sources = tuple(sources)
        self.labels = labels
        self.keys = tuple(key for source in sources for key in source.keys)
        self.concurrent = all(source.concurrent for source in sources)
        self._starts = [0, *accumulate(len(source) for source in sources)]

    def load(self, index: int) -> Image:
        """One image, see ``ImageSource.load``."""
        source, own = self._find(index)
        return source.load(own)

    def digest(self, index: int) -> int:
        """What identifies one image, see ``ImageSource.digest``."""
        source, own = self._find(index)
        return source.digest(own)

    def _find(self, index: int) -> tuple[ImageSource, int]:
        position = bisect_right(self._starts, index) - 1
        return self.sources[position], index - self._starts[position]


@dataclass(frozen=True)
class Pool:
    """The images of all sources, numbered through.

    Attributes:
        source: all of them.
        classes: the names of the classes.
        labels: class indices, shape ``(num_images,)``.
        digests: what each image is known by, shape ``(num_images,)``.
        places: in which source each lies, as an index into ``SETS``, shape ``(num_images,)``.
    """

    source: JoinedSource
    classes: tuple[str, ...]
    labels: Tensor
    digests: Tensor
    places: Tensor

    @classmethod
    def of(cls, sources: Mapping[str, ImageSource], classes: Sequence[str]) -> Pool:
        """Reads the content of all images of the sources of a data set, which are named as in ``SETS``."""
        ordered = [name for name in SETS if name in sources]
        labels = torch.cat([sources[name].labels for name in ordered]).to(torch.int64)
        return cls(
            JoinedSource([sources[name] for name in ordered], labels),
            tuple(classes),
            labels,
            torch.cat([digests_of(sources[name], f"{WORDS[name]} images") for name in ordered]),
            torch.cat([torch.full((len(sources[name]),), SETS.index(name)) for name in ordered]),
        )

    def with_classes(self, classes: Sequence[str], numbers: Sequence[int]) -> Pool:
        """The same images with other classes; ``numbers`` holds the new number of each present one."""
        labels = torch.tensor(numbers)[self.labels]
        return replace(self, source=JoinedSource(self.source.sources, labels), classes=tuple(classes), labels=labels)

    def name(self, index: Tensor | int) -> str:
        """What one image is called in messages."""
        return self.source.keys[int(index)]

    def class_name(self, index: Tensor | int) -> str:
        """The name of the class of one image."""
        return self.classes[int(self.labels[int(index)])]


WORDS = {"train": "training", "held_out": "held-out", "test": "test"}


def counted(number: int, what: str = "image") -> str:
    """Such as ``1 image is`` or ``3 images are``."""
    return f"1 {what} is" if number == 1 else f"{number} {what}s are"


def digests_of(source: ImageSource, description: str) -> Tensor:
    """The digest of every image, int64 of shape ``(num_images,)``, read by several threads where the source allows it; each
    process of a run reads its part.

    What cannot be read is known by its key.

    Raises:
        ValueError: another process finds other images.
    """
    if count() > 1:
        _check_alike(source, description)
    own = part_of(len(source))

    def read(start: int) -> Sequence[int]:
        return [_digest(source, index) for index in range(start, min(start + _CHUNK, own.stop))]

    found: list[int] = []
    with (
        ThreadPoolExecutor(num_available_cores() if source.concurrent else 1) as pool,
        progress(_LOGGER, f"reading {description}", "image", total=len(own), leave=False) as bar,
    ):
        for part in pool.map(read, range(own.start, own.stop, _CHUNK)):
            found += part
            bar.update(len(part))
    read_by_all = torch.zeros(len(source), dtype=torch.int64)
    read_by_all[own.start : own.stop] = torch.tensor(found, dtype=torch.int64)
    add_up([read_by_all])
    return read_by_all


def _check_alike(source: ImageSource, description: str) -> None:
    """By number, names and classes, so that what one process reads is what another one means."""
    names = "\0".join(os.path.basename(key) for key in source.keys).encode(errors="surrogateescape")
    seen = (len(source), digests.of_bytes(names + source.labels.numpy().tobytes()))
    numbers, fingerprints = zip(*gathered(seen), strict=True)
    if len({*fingerprints}) > 1:
        raise ValueError(
            f"the {len(numbers)} processes find different {description} (numbers by process: {', '.join(map(str, numbers))}): "
            "they must see the same files"
        )


def _digest(source: ImageSource, index: int) -> int:
    try:
        return source.digest(index)
    except MemoryError:
        raise
    except Exception:  # an image that cannot be read is counted as corrupt where it is decoded
        return digests.of_bytes(source.keys[index].encode(errors="surrogateescape"))
