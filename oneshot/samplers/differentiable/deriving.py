"""From weights over options to one architecture: the strongest option of each choice, by the published rules."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from oneshot.arch import Choice, Join, Option
from oneshot.spaces.base import SearchSpace

Strengths = Mapping[str, Tensor]


def derive(space: SearchSpace, strengths: Strengths, threshold: float = 0.0) -> dict[str, Option]:
    """The option of every choice, in the form in which it was trained: ``space.arch`` of it is the architecture, whose canonical
    form may inherit the weights of other edges.

    In joins that keep a number of edges, "none" is no option, and the edges are those with the strongest best options
    (quark0/darts ``model_search.py``, ``genotype``). Edges whose best option is weaker than ``threshold`` go as well
    (xiaomi-automl/FairDARTS ``fairdarts/utils.py``, ``threshold_sparse``).
    """
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
