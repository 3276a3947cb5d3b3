"""Which blocks a shallower network does without: those that do least, measured once before a training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation.batches import Batches
from oneshot.pipeline.folders import supernet_state
from oneshot.processes import from_first
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.block_changes import block_changes
from oneshot.spaces.elastic_network import ElasticNetwork
from oneshot.training import TrainSettings
from oneshot.training.checkpoint import is_checkpoint
from oneshot.training.randomness import make_generator, seeded

log = logging.getLogger(__name__)
_IMAGES = 128


def order_blocks(
    space: SearchSpace, data: ImageData, settings: TrainSettings, newest: Mapping[str, Any] | None, init: Path | None
) -> SearchSpace:
    """The space with blocks in the order in which they go: that of the run's newest checkpoint, or of the one to start from; of a
    new run that begins with trained weights, by how little leaving a block out changes its stage's output on training images.
    Other spaces, and one that is told the order, stay as they are.
    """
    if not isinstance(space, ElasticNetwork) or space.definition["removal"] is not None:
        return space
    stored = _definition(newest, init)
    if stored is not None:
        removal = stored.get("removal")
        try:
            return space if removal is None else space.with_removal(removal)
        except (ValueError, TypeError):  # it is a run of another network, which whoever reads its weights will say
            return space
    stages = {end: blocks for end, blocks in space.removable().items() if len(blocks) > 1}
    if not space.starts_trained or not stages:
        return space
    device = resolve_device(settings.device)
    with seeded("weights", settings.seed):
        network = space.network(space.largest).eval().to(device)
    order = torch.randperm(len(data.train), generator=make_generator("blocks", settings.seed))[:_IMAGES]
    batches = Batches(data.train.subset(order.sort().values), data, 32, device).at(space.input_shape(space.largest)[-1])
    changes = block_changes(network, stages, (images for images, _ in batches))
    removal = from_first(sorted(changes, key=lambda block: changes[block]))
    log.info(
        "blocks that go first, by what leaving them out changes on %d training images: %s",
        len(order), ", ".join(f"{block} ({100 * changes[block]:.0f} %)" for block in removal[:3]),
    )  # fmt: skip
    return space.with_removal(removal)


def _definition(newest: Mapping[str, Any] | None, init: Path | None) -> Mapping[str, Any] | None:
    """What a run says of its space: the one that is continued, or the one to start from."""
    if newest is None and init is not None and (init.is_dir() or (init.is_file() and is_checkpoint(init))):
        newest = supernet_state(init)[0]
    found = None if newest is None else newest.get("space")
    return found if isinstance(found, Mapping) else None
