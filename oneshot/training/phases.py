"""Training in phases, each on a larger part of the space: progressive shrinking (Cai et al., ICLR 2020, section 3.3)."""

from __future__ import annotations

import fnmatch
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from oneshot.arch import Option
from oneshot.checking import check_least
from oneshot.spaces.base import SearchSpace
from oneshot.training.settings import TrainSettings

log = logging.getLogger(__name__)
Space = TypeVar("Space", bound=SearchSpace)


@dataclass(frozen=True)
class PhaseSettings:
    """One phase of the training of a supernet; what is None is the trainer's.

    Args:
        epochs: passes over the training images.
        min_steps: of the optimizer: of few images it takes more epochs (``lengthened``), unless their number was asked for.
        lr: peak learning rate; every phase has a cosine of its own.
        warmup_epochs: linear warm-up before the cosine.
        num_paths: subnets a step, for samplers that have such a setting.
        resolutions: input sizes in pixels; None is all of the space.
        image_size: input size in pixels to train at instead of the architectures' own: a first phase on small images is fast
            (progressive resizing; Tan and Le, EfficientNetV2, ICML 2021, section 4).
        largest: pattern of choice names to how many of their options take part, counted from the largest; choices that no
            pattern matches take part with all. A pattern that matches no choice of the space is passed over.
        distill: whether the subnets learn from the largest network as it was before the first such phase.
        sort_channels: order the channels by their importance before the phase, so that its new, narrower networks start with
            the most important ones.
        stored_statistics: whether batch normalisation uses the statistics that the weights come with, and keeps them: those of a
            short training on few images follow its weights too late.
        strongest: keep so many options of each choice, those that the phase before found strongest, with what it learned of them:
            for samplers that learn the architecture by gradient.
        partial_channels: of these samplers. What was learned of the options stays here too, and the new channels of wider
            operations begin as copies.
        untrained: whether what the phase leaves out by ``largest`` belongs to the supernet after it all the same: networks that a
            search repairs rather than trains (``oneshot.evaluation.repair``).
    """

    epochs: int = 1
    min_steps: int | None = None
    lr: float | None = None
    warmup_epochs: float | None = None
    num_paths: int | None = None
    resolutions: list[int] | None = None
    image_size: int | None = None
    largest: dict[str, int] = field(default_factory=dict)
    distill: bool = False
    sort_channels: bool = False
    stored_statistics: bool = False
    untrained: bool = False
    strongest: int | None = None
    partial_channels: int | None = None

    @property
    def goes_on(self) -> bool:
        """Whether what the phase before learned of the options stays."""
        return self.strongest is not None or self.partial_channels is not None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"a phase's epochs are at least 1, not {self.epochs}")
        largest = {f"largest[{pattern!r}]": count for pattern, count in self.largest.items()}
        check_least(1, "a phase's ", num_paths=self.num_paths, image_size=self.image_size, **largest)
        check_least(0, "a phase's ", min_steps=self.min_steps)
        check_least(1, "a phase's ", strongest=self.strongest, partial_channels=self.partial_channels)

    def restrict(self, space: Space) -> Space:
        """The part of ``space`` that this phase trains.

        Raises:
            ValueError: a resolution that the space does not have.
        """
        options: dict[str, tuple[Option, ...]] = {}
        for choice in space.choices:
            for pattern, count in self.largest.items():
                if fnmatch.fnmatchcase(choice.name, pattern):
                    options[choice.name] = choice.options[-count:]
        if self.resolutions is not None:
            options["resolution"] = tuple(self.resolutions)
        return space.restrict(options)

    def lengthened(self, steps_per_epoch: int) -> PhaseSettings:
        """This phase with as many epochs as ``min_steps`` take, if that is more."""
        epochs = max(self.epochs, math.ceil((self.min_steps or 0) / steps_per_epoch))
        return replace(self, epochs=epochs, warmup_epochs=_scaled(self, epochs))

    def apply(self, settings: TrainSettings) -> TrainSettings:
        """The trainer's settings with those of this phase."""
        averaged = None if settings.average_epochs is None else min(settings.average_epochs, self.epochs)
        own = {"epochs": self.epochs, "lr": self.lr, "warmup_epochs": self.warmup_epochs, "average_epochs": averaged}
        changed = replace(settings, **{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]
        return changed


def plan_phases(
    phases: Mapping[str, PhaseSettings], space: SearchSpace, epochs: int | None = None
) -> dict[str, PhaseSettings]:
    """The phases to train: those that add nothing to the one before, for want of a choice that they open, are left out. A phase
    at another ``image_size``, with fewer options or on more channels adds something.

    Args:
        epochs: scales the phases to this total, a whole number of epochs and at least one each; None leaves them, and 0 takes
            none.

    Raises:
        ValueError: a phase that does not fit the space, or fewer epochs than phases.
    """
    if epochs == 0:
        return {}
    planned: dict[str, PhaseSettings] = {}
    before: tuple[object, ...] | None = None
    for name, phase in phases.items():
        try:
            part = phase.restrict(space)
        except ValueError as error:
            raise ValueError(f"phases.{name}: {error}") from None
        trains = (part.choices, phase.image_size, phase.untrained, phase.strongest, phase.partial_channels)
        if phase.strongest is not None and not planned:
            raise ValueError(f"phases.{name}.strongest keeps options of the phase before, and {name} is the first")
        most = max(len(choice.options) for choice in part.choices)
        if (phase.strongest or 0) > most:
            raise ValueError(
                f"phases.{name}.strongest is at most {most}, as many as a choice has, not {phase.strongest}"
            )
        if trains == before:
            log.info("phase %s adds no network of this space and is left out", name)
            continue
        planned[name], before = phase, trains
    if len(phases) > 1 and len(planned) == 1:
        patterns = sorted({pattern for phase in phases.values() for pattern in phase.largest})
        reason = f"none of its choices matches {', '.join(patterns)}" if patterns else "each trains what the first does"
        raise ValueError(
            f"no phase opens anything in {type(space).__name__}: {reason}; train it without phases, or give "
            "phases.NAME.largest the names of its choices"
        )
    if epochs is None or not planned:
        return planned
    if epochs < len(planned):
        raise ValueError(f"trainer.epochs is at least 1 for each of the {len(planned)} phases, not {epochs}")
    return {
        name: replace(phase, epochs=count, warmup_epochs=_scaled(phase, count))
        for (name, phase), count in zip(
            planned.items(), _shares([phase.epochs for phase in planned.values()], epochs), strict=True
        )
    }


def _scaled(phase: PhaseSettings, epochs: int) -> float | None:
    return None if phase.warmup_epochs is None else phase.warmup_epochs * epochs / phase.epochs


def _shares(weights: list[int], total: int) -> list[int]:
    """``total`` in whole parts of at least 1, as near to the proportions of ``weights`` as they can be (largest remainder)."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [max(1, math.floor(share)) for share in exact]
    while sum(parts) != total:
        step = 1 if sum(parts) < total else -1
        open_ = [index for index, part in enumerate(parts) if part + step >= 1]
        parts[max(open_, key=lambda index: step * (exact[index] - parts[index]))] += step
    return parts
