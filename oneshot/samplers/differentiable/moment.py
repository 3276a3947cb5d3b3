"""Where in its training a run stands, and what changes with that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from oneshot.checking import check_count


@dataclass(frozen=True)
class Moment:
    """A step of a training of ``epochs`` epochs.

    Args:
        step: steps done before this one, of the whole run.
        epoch: the epoch to which it belongs, from 0.
        epochs: of this part of the run.
    """

    step: int
    epoch: int
    epochs: int


@dataclass(frozen=True)
class Temperature:
    """A temperature that falls from epoch to epoch.

    Args:
        start: of the first epoch.
        end: of the last epoch, where it falls linearly.
        decay: falls by this rate instead, ``start * exp(-decay * epoch)``; None is linear.
        first_epoch: until then it stays at ``start``.

    Raises:
        ValueError: a temperature or a rate that is not above 0, or an end above the start.
    """

    start: float = 1.0
    end: float = 1.0
    decay: float | None = None
    first_epoch: int = 0

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is above 0, not {value}")
        if self.end > self.start:
            raise ValueError(f"end is at most start, {self.start}, because a temperature falls, not {self.end}")
        if self.decay is not None and not (self.decay > 0 and math.isfinite(self.decay)):
            raise ValueError(f"decay is above 0, or null for a linear fall, not {self.decay}")
        check_count(0, first_epoch=self.first_epoch)

    def at(self, moment: Moment) -> float:
        """The temperature of an epoch."""
        epoch = max(0, moment.epoch - self.first_epoch)
        if self.decay is not None:
            return self.start * math.exp(-self.decay * epoch)
        last = max(1, moment.epochs - 1 - self.first_epoch)
        return self.start - (self.start - self.end) * min(1.0, epoch / last)
