"""Dropout on skip connections during a search (Chen et al., P-DARTS, ICCV 2019, section 3.3)."""

from __future__ import annotations

import math

from oneshot.samplers.differentiable.moment import Moment

_DECAY = 0.2


def skip_dropout_at(rate: float, moment: Moment, first_epoch: int) -> float:
    """The rate of an epoch: it falls linearly while only weights learn, and from ``rate`` by ``exp(-0.2 epoch)`` from
    ``first_epoch`` on, when the architecture does (chenxin061/pdarts ``train_search.py``).
    """
    if moment.epoch < first_epoch:
        return rate * (moment.epochs - moment.epoch - 1) / moment.epochs
    return rate * math.exp(-_DECAY * (moment.epoch - first_epoch))
