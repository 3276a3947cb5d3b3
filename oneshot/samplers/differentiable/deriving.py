"""From weights over options to one architecture: the strongest option of each choice, by the published rules."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping

from torch import Tensor

from oneshot.arch import Choice, Join, Option
from oneshot.spaces.base import SearchSpace

Strengths = Mapping[str, Tensor]
_SKIPS = ("skip_connect", "identity", "skip")


def derive(
    space: SearchSpace, strengths: Strengths, threshold: float = 0.0, max_skips: Mapping[str, int] | None = None
) -> dict[str, Option]:
    """The option of every choice, in the form in which it was trained: ``space.arch`` of it is the architecture, whose canonical
    form may inherit the weights of other edges.

    In joins that keep a number of edges, "none" is no option, and the edges are those with the strongest best options
    (quark0/darts ``model_search.py``, ``genotype``). Edges whose best option is weaker than ``threshold`` go as well
    (xiaomi-automl/FairDARTS ``fairdarts/utils.py``, ``threshold_sparse``).

    ``max_skips`` is the most skip connections among the choices of a pattern: as long as there are more, the weakest of them is
    passed over, and edges and operations are chosen anew, where others are left (chenxin061/pdarts ``train_search.py``,
    ``delete_min_sk_prob``).
    """
    weights = {name: values.clone() for name, values in strengths.items()}
    choices = {choice.name: choice for choice in space.choices}
    while True:
        values = _derived(space, weights, threshold)
        existing = _existing(space, values)
        skips = [
            (float(weights[name][position]), name, position)
            for pattern, most in (max_skips or {}).items()
            if count_skips(space, values, part := fnmatch.filter(values, pattern))[0] > most
            for name in part
            if name in weights and is_skip(existing.get(name, ""))
            for position in [choices[name].options.index(values[name])]
            if weights[name][position] >= 0
        ]
        if not skips:
            return values
        _, name, position = min(skips)
        weights[name][position] = -1.0


def count_skips(
    space: SearchSpace, values: Mapping[str, Option], names: Collection[str] | None = None
) -> tuple[int, int]:
    """How many choices are a skip connection, and how many are something at all: of those that exist under ``values``, that may
    be a skip connection or lead into a join, and that are among ``names`` where these are given.
    """
    existing = _existing(space, values)
    edges = {name for join in space.joins for name in join.choices}  # also those that were narrowed to other options
    taken = [
        existing[choice.name]
        for choice in space.choices
        if choice.name in existing
        and (names is None or choice.name in names)
        and (choice.name in edges or any(map(is_skip, choice.options)))
    ]
    return sum(map(is_skip, taken)), sum(option != "none" for option in taken)


def _existing(space: SearchSpace, values: Mapping[str, Option]) -> dict[str, Option]:
    """The values of the choices that exist under those of others."""
    existing: dict[str, Option] = {}
    for choice in space.choices:
        if choice.is_active(existing):
            existing[choice.name] = values[choice.name]
    return existing


def is_skip(option: Option) -> bool:
    """Whether an option is called as skip connections are."""
    return option in _SKIPS


def _derived(space: SearchSpace, strengths: Strengths, threshold: float) -> dict[str, Option]:
    values = {choice.name: strongest(choice, strengths) for choice in space.choices}
    choices = {choice.name: choice for choice in space.choices}
    for join in space.joins:
        if join.kept is not None:
            values |= _kept(join, choices, strengths, threshold)
    return values


def strongest(choice: Choice, strengths: Strengths, without: Option | None = None) -> Option:
    """The strongest option of a choice, the first of equal ones, ``without`` one of them where there are others."""
    if choice.name not in strengths:
        return choice.options[0]
    pairs = zip(choice.options, strengths[choice.name].tolist(), strict=True)
    open_ = [(value, option) for option, value in pairs if option != without] or [(0.0, choice.options[0])]
    return max(open_, key=lambda pair: pair[0])[1]


def _kept(join: Join, choices: Mapping[str, Choice], strengths: Strengths, threshold: float) -> dict[str, Option]:
    best: dict[str, tuple[float, Option]] = {}
    for name in join.choices:
        option = strongest(choices[name], strengths, join.none)
        strength = float(strengths[name][choices[name].options.index(option)]) if name in strengths else 1.0
        best[name] = (strength, option)
    order = sorted(best, key=lambda name: -best[name][0])
    taken: dict[str, Option] = {}
    for rank, name in enumerate(order):
        strength, option = best[name]
        goes = (rank >= (join.kept or 0) or strength < threshold) and join.none in choices[name].options
        taken[name] = join.none if goes else option
    return taken
