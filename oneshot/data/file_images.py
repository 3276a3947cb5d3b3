"""Images that are decoded anew whenever a batch asks for them, for sets too large for memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from oneshot.data.augmentation import Augmentation
from oneshot.data.cropping import BoxDraws, draw_boxes, random_crops
from oneshot.data.decoding import CorruptImages, bombs_refused, num_available_cores, read_image
from oneshot.data.images import Images, ImageSource
from oneshot.data.preprocessing import Preprocessing
from oneshot.processes import Share


class FileImages(Images):
    """Images of a source, decoded by worker processes.

    Attributes:
        corrupt: the corrupt images found so far, shared by all subsets.
    """

    def __init__(
        self,
        source: ImageSource,
        preprocessing: Preprocessing,
        *,
        indices: Tensor | None = None,
        num_workers: int | None = None,
        corrupt: CorruptImages | None = None,
    ) -> None:
        """Describes the set; nothing is decoded yet.

        Args:
            source: where the images come from.
            preprocessing: how they are decoded.
            indices: which images of the source, int64 of shape ``(num_images,)``; all of them by default.
            num_workers: processes that decode; 0 decodes in this one, None starts one per available core, at most 8.
                A source that is not ``concurrent`` is always decoded in this one.
            corrupt: counts the corrupt images and sets their limit, 10 by default.
        """
        self.source = source
        self.preprocessing = preprocessing
        self.image_size = preprocessing.image_size
        self.indices = torch.arange(len(source)) if indices is None else indices
        self.num_workers = num_available_cores() if num_workers is None else num_workers
        self.corrupt = CorruptImages(10) if corrupt is None else corrupt
        self.labels = source.labels[self.indices].to(torch.int64)
        self.keys = tuple(source.keys[i] for i in self.indices.tolist())
        self._idle: dict[int, DataLoader[_Answer]] = {}  # by the number of workers, which wait for requests

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields centres and labels, see ``Images.batches``.

        Raises:
            ValueError: more images are corrupt than ``corrupt`` tolerates, or all are.
        """
        requests = (_Request(positions, positions, min(2, len(positions)), None) for positions in index_batches)
        return self._answers(requests, len(index_batches))

    def training_batches(
        self,
        index_batches: Sequence[Tensor],
        augmentation: Augmentation,
        generators: Iterable[torch.Generator],
        share: Share | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields crops or centres, see ``Images.training_batches``.

        Raises:
            ValueError: more images are corrupt than ``corrupt`` tolerates, or all are.
        """
        rows = slice(None) if share is None else share.rows
        if augmentation.cuts_from_whole:
            requests = (
                _Request(
                    asked[rows], asked, len(asked[rows]), _Crops(augmentation, draw_boxes(len(asked), drawn).of(rows))
                )
                for asked, drawn in zip(index_batches, generators, strict=False)
            )
        else:
            requests = (_Request(asked[rows], asked, len(asked[rows]), None) for asked in index_batches)
        return self._answers(requests, len(index_batches))

    def _answers(self, requests: Iterator[_Request], number: int) -> Iterator[tuple[Tensor, Tensor]]:
        num_workers = min(self.num_workers, number) if self.source.concurrent else 0
        loader = self._idle.pop(num_workers, None)
        if loader is None:
            loader = self._loader(num_workers)
        sampler = loader.sampler
        assert isinstance(sampler, _Requests)
        sampler.requests = requests
        for answer in loader:
            for position, reason in answer.failures:
                self.corrupt.add(self.keys[position], reason)
            if len(answer.images) < answer.least:
                raise ValueError(
                    f"none of the {len(self)} images of a set can be decoded, the first is {self.keys[0]} "
                    f"({answer.failures[0][1]})"
                )
            yield answer.images, self.labels[answer.positions]
        self._idle[num_workers] = loader

    def _loader(self, num_workers: int) -> DataLoader[_Answer]:
        """One whose workers, started once, stay for later requests as long as it does."""
        return DataLoader(
            _Decoder(self.source, self.indices, self.preprocessing, self.corrupt.limit),
            sampler=_Requests(),  # requests rather than indices
            batch_size=None,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # the loader would otherwise draw from the global one
        )

    def subset(self, indices: Tensor) -> FileImages:
        """The set of the images at ``indices``, see ``Images.subset``."""
        return FileImages(
            self.source,
            self.preprocessing,
            indices=self.indices[indices],
            num_workers=self.num_workers,
            corrupt=self.corrupt,
        )


class _Crops(NamedTuple):
    """Which crops are cut, and the numbers from which they follow."""

    augmentation: Augmentation
    draws: BoxDraws


class _Request(NamedTuple):
    """A batch, or a share of one: positions in the set, those of the whole batch, the least number of images, and its crops if it
    has such.
    """

    positions: Tensor
    whole: Tensor
    least: int
    crops: _Crops | None


class _Requests(Sampler[_Request]):
    """What a loader is asked for next."""

    requests: Iterator[_Request] = iter(())

    def __iter__(self) -> Iterator[_Request]:
        return self.requests


class _Answer(NamedTuple):
    """Images with their positions in the set, the least number that was asked for, and what could not be decoded."""

    images: Tensor
    positions: Tensor
    least: int
    failures: list[tuple[int, str]]


class _Decoder(Dataset[_Answer]):
    """Answers requests for batches; gives up where more images are corrupt than is tolerated."""

    def __init__(
        self,
        source: ImageSource,
        indices: Tensor,
        preprocessing: Preprocessing,
        max_corrupt: int,
    ) -> None:
        self.source = source
        self.indices = indices
        self.preprocessing = preprocessing
        self.max_corrupt = max_corrupt

    def __getitem__(self, request: _Request) -> _Answer:
        wanted = request.positions.tolist()
        decoded: dict[int, Tensor] = {}  # by place in the batch
        positions = list(wanted)
        failures: dict[int, str] = {}

        def decode(place: int, position: int) -> bool:
            if position in failures:
                return False
            image = read_image(self.source, int(self.indices[position]), self.preprocessing)
            if isinstance(image, str):
                failures[position] = image
                return False
            if request.crops is None:
                decoded[place] = torch.from_numpy(self.preprocessing.centre(image).copy())
            else:
                decoded[place] = self.preprocessing.whole(image)
            positions[place] = position
            return True

        with bombs_refused():
            for place, position in enumerate(wanted):
                decode(place, position)
            for place in [place for place in range(len(wanted)) if place not in decoded]:
                if len(decoded) >= request.least:
                    break
                for position in self._others(wanted[place], {*request.whole.tolist(), *positions}):
                    if decode(place, position) or len(failures) > self.max_corrupt:
                        break
        places = sorted(decoded)
        images = [decoded[place] for place in places]
        kept = torch.tensor([positions[place] for place in places], dtype=torch.int64)
        return _Answer(self._batch(images, request, places), kept, request.least, list(failures.items()))

    def _others(self, position: int, in_batch: set[int]) -> Iterator[int]:
        """All positions of the set from the next one on, those of the batch last."""
        number = len(self.indices)
        following = [(position + step) % number for step in range(1, number)]
        yield from (other for other in following if other not in in_batch)
        yield from (other for other in following if other in in_batch)

    def _batch(self, images: Sequence[Tensor], request: _Request, places: Sequence[int]) -> Tensor:
        size = self.preprocessing.image_size
        if not images:
            return torch.empty((0, 3, size, size), dtype=torch.uint8)
        if request.crops is None:
            return torch.stack(list(images))
        augmentation, draws = request.crops
        area, ratio = augmentation.crop_scale, augmentation.crop_ratio
        return random_crops(images, draws.of(torch.tensor(places)), area, ratio, size, self.preprocessing.interpolation)


def _unchanged(batch: Any) -> Any:
    return batch
