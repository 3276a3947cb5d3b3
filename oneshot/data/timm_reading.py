"""Opening one split of a data set through timm, whether it is indexed or a stream."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from oneshot.data import digests
from oneshot.data.arrays import ArraySource
from oneshot.data.colour import deep_values, is_deep, to_rgb
from oneshot.data.folder_files import PassedOver, is_hidden
from oneshot.data.images import ImageSource
from oneshot.data.options import DataOptions
from oneshot.data.preprocessing import Preprocessing
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
        num_bytes: what its images take in memory already, as those of streams do.
    """

    source: ImageSource
    class_to_index: Mapping[str, int]
    num_skipped: int = 0
    num_bytes: int = 0


class ReaderSource(ImageSource):
    """Images of an indexed data set, decoded on request."""

    def __init__(self, dataset: Any, prefix: str) -> None:
        """Reads all labels.

        Args:
            dataset: a ``timm.data.ImageDataset``, whose reader is asked directly because the data set itself replaces a
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
        """Opens one image."""
        from PIL import Image as pil

        if self.reader is None:
            image: Image = self.dataset[index][0]
            return image
        with self.reader[index][0] as file:
            return pil.open(BytesIO(file.read()))

    def digest(self, index: int) -> int:
        """What identifies one image: the bytes that its reader gives, or its pixels."""
        if self.reader is None:
            return super().digest(index)
        with self.reader[index][0] as file:
            return digests.of_bytes(file.read() or self.keys[index].encode())


def open_split(name: str, split: str, arguments: Mapping[str, Any], options: DataOptions, num_bytes: int) -> Split:
    """Opens a split with ``timm.data.create_dataset``; a stream is decoded into memory here and now.

    Args:
        name: of the data set, as timm takes it.
        split: its name.
        arguments: further arguments of ``timm.data.create_dataset``.
        options: see ``DataOptions``.
        num_bytes: what other streams have put into memory already.

    Raises:
        ValueError: timm cannot open it (its reason is quoted), labels are not class numbers, a stream does not fit into
            memory, or too many of its images are corrupt.
    """
    from timm.data.dataset import ImageDataset, IterableImageDataset
    from timm.data.dataset_factory import create_dataset
    from timm.data.readers.reader_image_folder import ReaderImageFolder

    if name.lower().startswith(("wds/", "hfids/")):
        arguments = {"input_img_mode": "", **arguments}  # as they are: transparency and depth would be lost otherwise
    try:
        dataset = create_dataset(name, split=split, is_training=False, **arguments)
    except ImportError as error:
        raise ValueError(f"reading {name!r} needs a package that is not installed: {one_line(error)}") from None
    except Exception as error:  # every reader has its own
        raise ValueError(f"timm cannot open split {split!r} of {name!r}: {one_line(error)}") from None
    prefix = f"{name}:{split}"
    if isinstance(dataset, IterableImageDataset):
        return _read_stream(dataset, prefix, options, num_bytes)
    if isinstance(dataset, ImageDataset) and isinstance(dataset.reader, ReaderImageFolder):
        _leave_out_hidden(dataset.reader, keep_classes=bool(arguments.get("class_map")))
    return Split(ReaderSource(dataset, prefix), _class_to_index(dataset))


def _leave_out_hidden(reader: Any, *, keep_classes: bool) -> None:
    """Takes out of timm's reader of folders what lies in hidden folders, and what is there once more by a link.

    Args:
        reader: a ``ReaderImageFolder``.
        keep_classes: whether classes that are left without images keep their numbers.
    """
    passed_over = PassedOver()
    first_path: dict[str, str] = {}  # by real folder, the one with the fewest parts
    by_depth = sorted(
        {os.path.dirname(path) for path, _ in reader.samples}, key=lambda path: (path.count(os.sep), path)
    )
    for folder in by_depth:
        first_path.setdefault(os.path.realpath(folder), folder)
    samples = []
    for path, label in reader.samples:
        parts = Path(os.path.relpath(path, reader.root)).parts
        folder = os.path.dirname(path)
        if any(is_hidden(part) for part in parts[:-1]):
            passed_over.add("images in hidden or system folders", path)
        elif parts[-1].startswith("."):
            passed_over.add("hidden files", path)
        elif first_path[os.path.realpath(folder)] != folder:
            passed_over.add("images that are there once more by a link", path)
        else:
            samples.append((path, label))
    passed_over.report(reader.root)
    if not keep_classes:
        left = {label for _, label in samples}
        names = [name for name, label in sorted(reader.class_to_idx.items(), key=lambda item: item[1]) if label in left]
        numbers = {reader.class_to_idx[name]: number for number, name in enumerate(names)}
        samples = [(path, numbers[label]) for path, label in samples]
        reader.class_to_idx = {name: number for number, name in enumerate(names)}
    reader.samples = samples


def one_line(error: Exception) -> str:
    """The type and message of an error in one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def _read_stream(dataset: Any, prefix: str, options: DataOptions, num_bytes: int) -> Split:
    # Under distributed training the reader would give each process its part only; every process wants all.
    dataset.reader.dist_rank, dataset.reader.dist_num_replicas = 0, 1
    dataset.set_loader_cfg(num_workers=1)
    expected = len(dataset)  # 0 if unknown
    images: list[NDArray[np.generic]] = []
    known_by: list[int] = []
    targets: list[object] = []
    try:
        for image, target in progress(log, f"decoding {prefix}", "image", iterable=dataset, leave=False):
            known_by.append(digests.of_image(image))
            images.append(_kept(image, options))
            targets.append(target)
            num_bytes += images[-1].nbytes
            if num_bytes > options.max_bytes:
                raise MemoryError
    except MemoryError:
        raise ValueError(
            f"{prefix} is a stream of more images than fit into data.memory_limit_gb={options.memory_limit_gb}, shorter "
            f"sides of up to {_stored(options).largest_stored} pixels; raise the limit, lower data.image_size or "
            f"data.stored_size, or unpack it into an image folder"
        ) from None
    except Exception as error:  # every reader has its own
        raise ValueError(f"{prefix} cannot be read after {len(images)} images: {one_line(error)}") from None
    num_skipped = max(0, expected - len(images))
    if num_skipped > options.max_corrupt or not images:
        raise ValueError(
            f"only {len(images)} images of {prefix} could be read, {expected} were expected (see the warnings above); "
            f"at most {options.max_corrupt} are skipped (data.max_corrupt={options.max_corrupt})"
        )
    source = ArraySource(images, _to_labels(targets, prefix), prefix, known_by=known_by)
    return Split(source, _class_to_index(dataset), num_skipped, sum(image.nbytes for image in images))


def _stored(options: DataOptions) -> Preprocessing:
    return Preprocessing(options.image_size, interpolation=options.interpolation, stored_size=options.stored_size)


def _kept(image: Image, options: DataOptions) -> NDArray[np.generic]:
    """What stays of an image of a stream until the range of its set is known: deep values, or reduced RGB."""
    if is_deep(image):
        return deep_values(image)
    stored = _stored(options)
    return np.ascontiguousarray(stored.whole(to_rgb(image, None)).permute(1, 2, 0).numpy())


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
