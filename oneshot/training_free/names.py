"""Training-free scores by name, as settings and files call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from oneshot.arch import suggest
from oneshot.reading import short
from oneshot.training_free.az_nas import Expressivity, Progressivity, Trainability
from oneshot.training_free.counts import MACs, NumParams
from oneshot.training_free.fisher import Fisher
from oneshot.training_free.grad_norm import GradNorm
from oneshot.training_free.grasp import GraSP
from oneshot.training_free.jacobian_covariance import JacobianCovariance
from oneshot.training_free.naswot import NASWOT
from oneshot.training_free.score import TrainingFreeScore
from oneshot.training_free.snip import SNIP
from oneshot.training_free.swap import SWAP, RegularisedSWAP
from oneshot.training_free.synflow import SynFlow
from oneshot.training_free.zen_score import ZenScore

_ALL: tuple[TrainingFreeScore, ...] = (
    NASWOT(),
    SWAP(),
    RegularisedSWAP(),
    SynFlow(),
    ZenScore(),
    GradNorm(),
    SNIP(),
    GraSP(),
    JacobianCovariance(),
    Fisher(),
    Expressivity(),
    Progressivity(),
    Trainability(),
    NumParams(),
    MACs(),
)
SCORES: Mapping[str, TrainingFreeScore] = MappingProxyType({score.name: score for score in _ALL})
"""Every score by its name, with the settings of its publication."""


def scores_called(
    names: Sequence[str], num_images: int | None = None, repeats: int | None = None
) -> list[TrainingFreeScore]:
    """The scores of these names, each once, in this order.

    Args:
        num_images: of the batch, and
        repeats: draws of weights, of every score that has such a setting; None leaves those of the publications.

    Raises:
        ValueError: no name, a name that there is not, or a number below 1 (2 images).
    """
    for name, value, least in (("num_images", num_images, 2), ("repeats", repeats, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} is at least {least}, not {value}")
    if not names:
        raise ValueError(f"there is no score to search with: give at least one of {', '.join(SCORES)}")
    found = []
    for name in dict.fromkeys(names):
        if name not in SCORES:
            near = suggest(name, list(SCORES)) if isinstance(name, str) else ""
            raise ValueError(f"{short(name)} is no training-free score; there are {', '.join(SCORES)}{near}")
        found.append(_changed(SCORES[name], {"num_images": num_images, "repeats": repeats}))
    return found


def _changed(score: Any, changes: Mapping[str, int | None]) -> TrainingFreeScore:
    own = {field.name for field in fields(score)}
    changed: TrainingFreeScore = replace(
        score, **{name: value for name, value in changes.items() if value is not None and name in own}
    )
    return changed
