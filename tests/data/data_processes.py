"""What each of several processes of a run reads of a folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from oneshot.data import Augmentation, FileSource, image_folder
from oneshot.processes import rank, share_of

CROPS = Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(0.8, 1.25))


def read(root: str, out: str) -> None:
    """Makes a data set, then one batch of all training images; writes what was read, and what was found, to a file."""
    digested: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    digest, load = FileSource.digest, FileSource.load

    def counted_digest(source: FileSource, index: int) -> int:
        digested[source.keys[index]] += 1
        return digest(source, index)

    def counted_load(source: FileSource, index: int) -> Any:
        decoded[source.keys[index]] += 1
        return load(source, index)

    FileSource.digest, FileSource.load = counted_digest, counted_load  # type: ignore[method-assign]
    data = image_folder(root, image_size=8, augmentation=CROPS, memory_limit_gb=0, num_workers=0)
    decoded.clear()
    asked = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    crops = torch.Generator().manual_seed(0)
    ((pixels, _),) = data.train.training_batches([asked], CROPS, [crops], share_of(len(asked)))
    found = {
        "digested": digested,
        "decoded": decoded,
        "asked": [data.train.keys[index] for index in asked.tolist()],
        "pixels": pixels.tolist(),
        "statistics": [data.mean, data.std],
    }
    (Path(out) / f"{rank()}.json").write_text(json.dumps(found))
