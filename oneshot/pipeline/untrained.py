"""A family without training: the run folder of a supernet whose weights are those of a trained network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneshot.arch import Option
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import Evaluator, RepairSettings, ScoreSettings
from oneshot.pipeline.folders import Trained
from oneshot.runs import writing
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import SupernetTask, TrainSettings
from oneshot.training.checkpoint import save_checkpoint
from oneshot.training.randomness import seeded

log = logging.getLogger(__name__)


def check_untrained(space: SearchSpace, data: ImageData) -> None:
    """Raises ValueError unless a supernet of ``space`` is of use without a step of training."""
    if not space.starts_trained:
        raise ValueError(
            "trainer.epochs=0 makes a family of a network that is trained already, but the weights of "
            f"{type(space).__name__} are random: give space.weights=FILE with +space=timm or +space=network, or train it"
        )
    if space.new_classifier:
        raise ValueError(
            f"trainer.epochs=0 leaves all weights as they are, but these are of other classes than the {data.num_classes} of "
            f"{data.name}, so the classifier is untrained: fine-tune the network on these images first, or train for some epochs"
        )


def start_family(
    space: SearchSpace,
    data: ImageData,
    settings: TrainSettings,
    options: Mapping[str, Sequence[Option]],
    config: Mapping[str, Any],
    folder: Path,
    sort: Callable[[Supernet], None],
) -> Trained:
    """Writes the checkpoint of a supernet that has taken no step, its channels sorted, so that it can be searched; its subnets
    are to be repaired.

    Args:
        options: those of the space that searches have, by pattern of choice names.
        config: plain values that describe the run.
        sort: sorts the channels of the new supernet.

    Raises:
        FolderInUseError: another process writes to the folder.
    """
    checkpoints, part = folder / "checkpoints", space.restrict(options)
    with writing(folder):
        with seeded("weights", settings.seed):
            supernet = Supernet(space)
        sort(supernet)
        supernet.space = part
        state = {
            **run_facts(space, part, data, config),
            "kind": SupernetTask.kind,
            "total_steps": 0,
            "model": supernet.state_dict(),
            "average": None,
            "task": {},
        }
        save_checkpoint(checkpoints, 0, state, settings.keep_checkpoints)
    device = resolve_device(settings.device)
    evaluator = Evaluator(
        supernet.to(device).eval(),
        data,
        ScoreSettings(channels_last=settings.channels_last),
        device=device,
        repair=RepairSettings(),
    )
    for name, arch in (("largest", part.largest), ("smallest", part.smallest)):
        score = evaluator(arch)
        log.info("%s, without training: accuracy %.4f, loss %.4f on held-out images", name, score.accuracy, score.loss)
    return Trained(supernet, dict(config), data.classes, folder.resolve(), 0, 0, record=data.record)


def run_facts(space: SearchSpace, part: SearchSpace, data: ImageData, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says beside the state: the settings, the space and which options of it ``part`` has, and the images."""
    before = {choice.name: choice.options for choice in space.choices}
    left = {choice.name: list(choice.options) for choice in part.choices if choice.options != before[choice.name]}
    return {
        "config": dict(config),
        "space": space.definition,
        "options": left,
        "classes": list(data.classes),
        "images": None if data.record is None else data.record.state(),
    }
