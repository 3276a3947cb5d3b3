"""Opening one split of a data set through timm, whether it is indexed or a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from oneshot.data.arrays import ArraySource
from oneshot.data.decoding import to_square
from oneshot.data.images import ImageSource
from oneshot.data.options import DataOptions
from oneshot.progress import progress

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Split:
    """One opened split.

    Attributes:
        source: its images.
        class_to_index: the names of the classes and their labels; empty if unknown.
        num_skipped: corrupt images that were left out while reading it.
    """

    source: ImageSource
    class_to_index: Mapping[str, int]
    num_skipped: int = 0


class ReaderSource(ImageSource):
    """Images of an indexed data set, decoded on request."""

    def __init__(self, dataset: Any, prefix: str) -> None:
        """Read all labels.

        Args:
            dataset: a `timm.data.ImageDataset`, whose reader is asked directly because the data set itself replaces a
                corrupt image by its neighbour; or a torchvision data set.
            prefix: of the keys, different for each split.
        """
        from timm.data.dataset import ImageDataset
        from timm.data.readers.reader_image_folder import ReaderImageFolder
        from timm.data.readers.reader_image_in_tar import ReaderImageInTar

        self.dataset = dataset
        self.reader = dataset.reader if isinstance(dataset, ImageDataset) else None
        self.concurrent = not isinstance(self.reader, ReaderImageInTar)  # which seeks in one open file
        if isinstance(self.reader, ReaderImageFolder):
            self.keys = tuple(path for path, _ in self.reader.samples)
            self.labels = torch.tensor([label for _, label in self.reader.samples], dtype=torch.int64)
        else:
            self.keys = tuple(f"{prefix}/{index}" for index in range(len(dataset)))
            self.labels = _to_labels(self._targets(), prefix)

    def _targets(self) -> Iterable[object]:
        owner = self.dataset if self.reader is None else self.reader
        if hasattr(owner, "targets"):  # most of torchvision's, tar files
            targets: Iterable[object] = owner.targets
            return targets
        if hasattr(owner, "iter_targets"):  # Hugging Face, with a recent timm
            targets = owner.iter_targets()
            return targets
        return (owner[index][1] for index in range(len(self.keys)))

    def load(self, index: int) -> Image:
        """Open one image."""
        from PIL import Image as pil

        if self.reader is None:
            image: Image = self.dataset[index][0]
            return image
        with self.reader[index][0] as file:
            return pil.open(BytesIO(file.read()))


def open_split(name: str, split: str, arguments: Mapping[str, Any], options: DataOptions, num_in_memory: int) -> Split:
    """Open a split with `timm.data.create_dataset`; a stream is decoded into memory here and now.

    Args:
        name: of the data set, as timm takes it.
        split: its name.
        arguments: further arguments of `timm.data.create_dataset`.
        options: see `DataOptions`.
        num_in_memory: how many images other streams have put into memory already.

    Raises:
        ValueError: timm cannot open it (its reason is quoted), labels are not class numbers, a stream does not fit into
            memory, or too many of its images are corrupt.
    """
    from timm.data.dataset import IterableImageDataset
    from timm.data.dataset_factory import create_dataset

    try:
        dataset = create_dataset(name, split=split, is_training=False, **arguments)
    except ImportError as error:
        raise ValueError(f"reading {name!r} needs a package that is not installed: {one_line(error)}") from None
    except Exception as error:  # every reader has its own
        raise ValueError(f"timm cannot open split {split!r} of {name!r}: {one_line(error)}") from None
    prefix = f"{name}:{split}"
    if isinstance(dataset, IterableImageDataset):
        return _read_stream(dataset, prefix, options, num_in_memory)
    return Split(ReaderSource(dataset, prefix), _class_to_index(dataset))


def one_line(error: Exception) -> str:
    """Return the type and message of an error in one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def _read_stream(dataset: Any, prefix: str, options: DataOptions, num_in_memory: int) -> Split:
    # Under distributed training the reader would give each process its part only; every process wants all.
    dataset.reader.dist_rank, dataset.reader.dist_num_replicas = 0, 1
    dataset.set_loader_cfg(num_workers=1)
    expected = len(dataset)  # 0 if unknown
    images: list[NDArray[np.uint8]] = []
    targets: list[object] = []
    try:
        for image, target in progress(log, f"decoding {prefix}", "image", iterable=dataset, leave=False):
            if num_in_memory + len(images) >= options.max_in_memory:
                raise MemoryError
            images.append(np.ascontiguousarray(to_square(image, options.image_size).transpose(1, 2, 0)))
            targets.append(target)
    except MemoryError:
        raise ValueError(
            f"{prefix} is a stream of more images of {options.image_size} pixels than fit into "
            f"data.memory_limit_gb={options.memory_limit_gb}; raise the limit, lower data.image_size, or unpack it "
            f"into an image folder"
        ) from None
    except Exception as error:  # every reader has its own
        raise ValueError(f"{prefix} cannot be read after {len(images)} images: {one_line(error)}") from None
    num_skipped = max(0, expected - len(images))
    if num_skipped > options.max_corrupt or not images:
        raise ValueError(
            f"only {len(images)} images of {prefix} could be read, {expected} were expected (see the warnings above); "
            f"at most {options.max_corrupt} are skipped (data.max_corrupt={options.max_corrupt})"
        )
    source = ArraySource(np.stack(images), _to_labels(targets, prefix), prefix)
    return Split(source, _class_to_index(dataset), num_skipped)


def _to_labels(targets: Iterable[object], prefix: str) -> torch.Tensor:
    labels = list(targets)
    for label in labels:
        if not isinstance(label, int | np.integer) and not (isinstance(label, torch.Tensor) and label.dim() == 0):
            raise ValueError(
                f"{prefix} has the label {label!r}, which is not a class number; give the names of the classes and "
                f"their numbers as data.reader_options.class_map, or another data.reader_options.target_key"
            )
    return torch.tensor([int(label) for label in labels], dtype=torch.int64)  # type: ignore[call-overload]


def _class_to_index(dataset: Any) -> Mapping[str, int]:
    for owner in (dataset, getattr(dataset, "reader", None)):
        for attribute in ("class_to_idx", "class_name_to_idx"):
            if getattr(owner, attribute, None):
                return {str(name): int(index) for name, index in getattr(owner, attribute).items()}
    return {}
