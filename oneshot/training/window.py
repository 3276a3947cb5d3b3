"""What a training did since its last record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

import torch

from oneshot.training.tasks import StepResult


class Window:
    """Means over the steps since the last record, and their speed. A checkpoint keeps the sums, so a run that continues records
    what it would have recorded.

    Args:
        num_images: of a step.
        device: where losses lie. They are not waited for before the means are asked for.
    """

    def __init__(self, num_images: int, device: torch.device) -> None:
        self._num_images = num_images
        self._loss, self._accuracy = torch.zeros((), device=device), torch.zeros((), device=device)
        self._num_steps = self._num_timed = 0  # those before a continuation were not timed
        self._began = 0.0

    def start(self) -> None:
        """The time of the next step begins."""
        self._began = time.monotonic()

    def add(self, result: StepResult) -> None:
        """Counts one step."""
        self._loss += result.loss
        self._accuracy += result.accuracy
        self._num_steps += 1
        self._num_timed += 1

    def means(self) -> tuple[float, float, float]:
        """Loss, accuracy and images per second."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        steps = self._num_steps
        return self._loss.item() / steps, self._accuracy.item() / steps, self._num_timed * self._num_images / seconds

    def restart(self) -> None:
        """Begins anew, after a record."""
        self._loss.zero_()
        self._accuracy.zero_()
        self._num_steps = self._num_timed = 0
        self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within is no step and counts for none."""
        started = time.monotonic()
        yield
        self._began += time.monotonic() - started

    def state_dict(self) -> dict[str, float]:
        """The sums so far."""
        return {"loss": self._loss.item(), "accuracy": self._accuracy.item(), "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Goes on with the sums of ``state``."""
        self._loss.fill_(state["loss"])
        self._accuracy.fill_(state["accuracy"])
        self._num_steps = int(state["num_steps"])
