"""Which split of the images a step of the job takes over, so that nothing is scored or tested on what it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneshot.data import MAY_MOVE, Recorded, SplitRecord
from oneshot.pipeline.folders import record_of, supernet_state
from oneshot.runs import differences
from oneshot.training.checkpoint import is_checkpoint

log = logging.getLogger(__name__)


def of_training(
    folder: Path, newest: Mapping[str, Any] | None, data: Mapping[str, Any], init: Path | None, new_classifier: bool
) -> Recorded | None:
    """The split for training a supernet: that of the run that ``folder`` holds, which goes on with its own images, or that of the
    run whose weights a new one starts from.

    Args:
        newest: the newest checkpoint in ``folder``, None for a new run.
        data: config of the images.
        init: the weights to start from; published ones have no split.
        new_classifier: whether a new run has classes of its own.

    Raises:
        FileNotFoundError: there is nothing called ``init``.
        ValueError: it holds no supernet.
    """
    if newest is not None:
        before = newest["config"].get("data") or {}
        moved = set(MAY_MOVE if newest.get("images") is not None else ())
        same = not differences(before, data, moved)  # another run is refused later
        return _continued(newest, folder) if same else None
    if init is None or (init.is_file() and not is_checkpoint(init)):
        return None
    state, found_in = supernet_state(init)
    return _or_warn(record_of(state, found_in), f"init={init}", anew=True, same_classes=not new_classifier)


def of_step(
    record: SplitRecord | None, origin: str, folder: Path, newest: Mapping[str, Any] | None, new_images: str
) -> Recorded | None:
    """The split for searching or retraining what was trained by an earlier step.

    Args:
        record: of the earlier step.
        origin: what messages call it.
        folder: of this step.
        newest: the newest checkpoint in ``folder``, whose run goes on with its own images; None where there is none.
        new_images: what is done with images that the record does not have, see ``Recorded``.
    """
    if newest is not None:
        return _continued(newest, folder)
    return _or_warn(record, origin, new_images=new_images)


def _continued(state: Mapping[str, Any], folder: Path) -> Recorded | None:
    record = record_of(state, folder)
    return None if record is None else Recorded(record, f"the run in {folder}")


def _or_warn(record: SplitRecord | None, origin: str, **options: Any) -> Recorded | None:
    if record is None:
        log.warning(
            "%s does not say which images it was trained on (it is of an earlier version): whether they are among the held-out "
            "and test images cannot be checked",
            origin,
        )
        return None
    return Recorded(record, origin, **options)
