"""What a training needs where the architecture learns by gradient: images for it, and the scores that show the gap to an
architecture.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from oneshot.data import ImageData
from oneshot.evaluation import Evaluator
from oneshot.evaluation.recalibration import recalibrate
from oneshot.evaluation.score import evaluate
from oneshot.mix import Mix
from oneshot.runs import write_text
from oneshot.samplers import DifferentiableSampler
from oneshot.supernet import Supernet
from oneshot.training import ArchitectureImages, TrainSettings
from oneshot.training.randomness import make_generator


def part_of_architecture(
    data: ImageData, share: float, settings: TrainSettings
) -> tuple[ImageData, ArchitectureImages | None]:
    """The data with the part of the training images that the weights learn from, and batches of the others, a ``share`` drawn by
    the seed; all, and None, where the share is 0. The held-out images stay what they are: no part of the training sees them.

    Raises:
        ValueError: one of the parts would be empty.
    """
    if share == 0:
        return data, None
    total = len(data.train)
    count = round(share * total)
    if not 0 < count < total:
        raise ValueError(
            f"sampler.learning.images={share} of {total} training images leaves {count} to the architecture"
        )
    order = torch.randperm(total, generator=make_generator("architecture images", settings.seed))
    others = data.train.subset(order[:count].sort().values)
    kept = replace(data, train=data.train.subset(order[count:].sort().values))
    return kept, ArchitectureImages(others, data, settings.batch_size, settings.seed)


def relaxed_scores(supernet: Supernet, evaluator: Evaluator, sampler: DifferentiableSampler) -> dict[str, float]:
    """Accuracies and losses on the held-out images of the relaxed network, of the derived one as it was trained, and of the
    derived one before its statistics are measured anew: what discretisation costs.
    """
    derived = Mix.one_hot(supernet.space.choices, sampler.derived())
    relaxed = Mix(sampler.strengths())
    found: dict[str, float] = {}
    for name, mix, is_recalibrated in (
        ("relaxed", relaxed, True),
        ("derived", derived, True),
        ("derived, statistics of the mixture", derived, False),
    ):
        resolution = supernet.input_shape(mix)[-1]
        module: nn.Module = supernet.extract(mix).eval()
        if is_recalibrated:
            recalibrate(module, (images for images, _ in evaluator.calibration.at(resolution)))
        score = evaluate(module.eval(), evaluator.held_out.at(resolution))
        found |= {f"held_out_accuracy/{name}": score.accuracy, f"held_out_loss/{name}": score.loss}
    return found


def write_derived(path: Path, sampler: DifferentiableSampler) -> None:
    """What was derived: as it was trained, and the architecture that this is, whose canonical form may inherit other weights."""
    (arch,) = sampler.derive(0)
    record = {"trained": sampler.derived(), "architecture": arch.to_dict()}
    write_text(path, json.dumps(record, indent=1) + "\n")
