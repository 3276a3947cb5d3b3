"""Averages of the weights over training, which usually rank better than the last weights do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from oneshot.training.settings import TrainSettings


class WeightAverage:
    """timm's exponential moving average over steps, torch's mean over the ends of the last epochs, or none, by the settings."""

    def __init__(self, module: nn.Module, settings: TrainSettings) -> None:
        from timm.utils import ModelEmaV3
        from torch.optim.swa_utils import AveragedModel

        self.source, self.settings = module, settings
        self._moving = None if settings.ema_decay is None else ModelEmaV3(module, decay=settings.ema_decay)
        self._mean = AveragedModel(module) if settings.average_epochs else None

    @property
    def module(self) -> nn.Module:
        """The average where it has begun, the weights themselves otherwise."""
        if self._moving is not None:
            moving: nn.Module = self._moving.module
            return moving
        if self._mean is not None and self._mean.n_averaged > 0:
            mean: nn.Module = self._mean.module
            return mean
        return self.source

    def after_step(self, step: int) -> None:
        """Takes in the weights after ``step`` steps."""
        if self._moving is not None:
            self._moving.update(self.source, step=step)

    def after_epoch(self, epoch: int) -> None:
        """Takes in the weights after ``epoch`` epochs of this part of the training."""
        if self._mean is not None and self._count(epoch):
            self._mean.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any] | None:
        """The average, None where there is none yet."""
        return None if self.module is self.source else self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None, epoch: int) -> None:
        """Restores ``state_dict``'s value as it was in epoch ``epoch``."""
        if self._mean is not None:
            self._mean.n_averaged.fill_(self._count(epoch))
        if self.module is not self.source:
            assert state is not None
            self.module.load_state_dict(state)

    def _count(self, epoch: int) -> int:
        """How many ends of epochs are in the mean."""
        assert self.settings.average_epochs is not None
        return max(0, epoch - self.settings.epochs + self.settings.average_epochs)
