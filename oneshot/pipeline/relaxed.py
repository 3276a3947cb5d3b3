"""What a training needs where the architecture learns by gradient: images for it, and the scores that show the gap to an
architecture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from oneshot.arch import Arch, Option
from oneshot.checking import check_least
from oneshot.data import ImageData
from oneshot.evaluation import Evaluator
from oneshot.evaluation.recalibration import recalibrate
from oneshot.evaluation.score import evaluate
from oneshot.pipeline.narrowing import strongest_options
from oneshot.runs import write_text
from oneshot.samplers import DifferentiableSampler
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import ArchitectureImages, TrainSettings
from oneshot.training.randomness import make_generator

DERIVED = "derived.json"
"""What the folder of a training calls its derived architecture."""


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
    derived, relaxed = sampler.derived_mix(), sampler.relaxed()
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


def partial_note(parts: int) -> str:
    """What somebody has to know who gives networks the weights of options that were trained on one of so many parts."""
    return (
        f"the options were trained on one of {parts} parts of their channels (sampler.partial_channels), and the networks that "
        "are scored have all: the other weights are as they began, and scores with inherited weights say nothing"
    )


def canonical_notes(sampler: DifferentiableSampler) -> list[str]:
    """A line where the derived network, in its canonical form, may inherit weights of other edges than it was trained with."""
    (arch,) = sampler.derive(0)
    if not (other := other_form(sampler.derived(), arch)):
        return []
    return [
        f"the derived cell was trained in a form that is not its canonical one ({other}), which may inherit the weights of "
        "other edges: training.html has the score of the cell as it was trained"
    ]


def other_form(decided: Mapping[str, object], arch: Arch) -> str:
    """``"4 choices differ, node1.from0 first"`` where an architecture stands for what was decided in another form, or ``""``."""
    other = [name for name, value in decided.items() if name in arch and arch[name] != value]
    return f"{len(other)} choice{'s differ' if len(other) > 1 else ' differs'}, {other[0]} first" if other else ""


def write_derived(path: Path, sampler: DifferentiableSampler) -> None:
    """What was derived: as it was trained, and the architecture that this is, whose canonical form may inherit other weights; and
    how strong the options of each choice are.
    """
    (arch,) = sampler.derive(0)
    learned = sampler.option_strengths()
    strengths = {
        choice.name: [
            *zip(choice.options, learned[choice.name].tolist() if choice.name in learned else [1.0], strict=False)
        ]
        for choice in sampler.space.choices
    }
    record = {"trained": sampler.derived(), "architecture": arch.to_dict(), "strengths": strengths}
    write_text(path, json.dumps(record, indent=1) + "\n")


@dataclass(frozen=True)
class Strongest:
    """Of each choice, only the options that an earlier run by gradient found strongest: what the next stage of P-DARTS is trained
    on (Chen et al., ICCV 2019, section 3.2), see ``strongest_options``.

    Args:
        run: the folder of that run; None is none.
        options: how many of each choice.

    Raises:
        ValueError: one without the other, or a number below 1.
    """

    run: str | None = None
    options: int | None = None

    def __post_init__(self) -> None:
        if (self.run is None) != (self.options is None):
            raise ValueError("strongest.run, a run by gradient, and strongest.options, how many options, go together")
        check_least(1, "strongest.", options=self.options)

    def of(self, space: SearchSpace) -> dict[str, list[Option]]:
        """Options by name of a choice, for ``restrict``.

        Raises:
            ValueError: the file of the run holds no such thing, or no choice of it has so many options.
            FileNotFoundError: there is no such run.
        """
        if self.run is None:
            return {}
        path = Path(self.run) / DERIVED
        if not path.is_file():
            raise FileNotFoundError(
                f"strongest.run: there is no {path}, which a training by gradient writes when it ends"
            )
        try:
            recorded = json.loads(path.read_text(encoding="utf-8"))["strengths"]
            found = strongest_options(space, recorded, self.options or 0)
            most = max(len(pairs) for pairs in recorded.values())
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"strongest.run: {path} holds no strengths of options") from None
        if (self.options or 0) > most:
            raise ValueError(
                f"strongest.options is at most {most}, as many as a choice of {self.run} has, not {self.options}"
            )
        return found
