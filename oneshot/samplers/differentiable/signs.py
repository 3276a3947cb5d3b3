"""Signs that a derived architecture may not be worth much: skip connections have won, or nothing has."""

from __future__ import annotations

from collections.abc import Mapping

from oneshot.arch import Option
from oneshot.samplers.differentiable.deriving import Strengths, count_skips
from oneshot.spaces.base import SearchSpace

_MANY_SKIPS = 0.5  # of the edges that are something
_CLEARLY = 1.25  # times an even share: what an option has to weigh


def collapsed(space: SearchSpace, derived: Mapping[str, Option], course: str = "") -> list[str]:
    """One line where more than half of the edges that were derived are skip connections.

    Args:
        course: of the largest eigenvalue, if that was measured.
    """
    skips, edges = count_skips(space, derived)
    if skips <= _MANY_SKIPS * edges:
        return []
    grown = course and f", and the largest eigenvalue went {course}"
    return [
        f"{skips} of the {edges} edges of the derived architecture are skip connections{grown}: the search may have collapsed "
        "(Zela et al., RobustDARTS, ICLR 2020); fewer epochs or another sampler may help"
    ]


def cut_off(space: SearchSpace, derived: Mapping[str, Option], threshold: float) -> list[str]:
    """One line where no edge into some node was strong enough."""
    empty = [join for join in space.joins if join.kept and all(derived.get(name) == join.none for name in join.choices)]
    if not empty:
        return []
    nodes = sum(join.kept is not None for join in space.joins)
    return [
        f"no edge is left into {len(empty)} of the {nodes} nodes where edges meet, as all of them are weaker than "
        f"sampler.threshold={threshold:g}: the derived network computes nothing there; more epochs, a larger "
        "sampler.learning.lr or a lower threshold leave some"
    ]


def undecided(strengths: Strengths) -> list[str]:
    """One line where, in most choices, no option weighs a quarter more than an even share: the strongest one is then the sign of
    a small difference.
    """
    shares = [
        (float(values.max()) / max(float(values.double().sum()), 1e-30), len(values))
        for values in strengths.values()
        if len(values) > 1
    ]
    unclear = [share for share, number in shares if share * number < _CLEARLY]
    if 2 * len(unclear) <= len(shares):
        return []
    share, number = max(shares, key=lambda pair: pair[0] * pair[1])
    return [
        f"{len(unclear)} of {len(shares)} choices are as good as undecided, their strongest option weighing hardly "
        f"more than others (the clearest has {share:.3f}, an even share is {1 / number:.3f}): the architecture needs more steps, "
        "by trainer.epochs, or larger ones, by sampler.learning.lr"
    ]
