"""Phases that go on with what the one before found strongest (Chen et al., DrNAS, ICLR 2021, section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch

from oneshot.arch import Option
from oneshot.samplers import DifferentiableSampler, Sampler
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import PhaseSettings

log = logging.getLogger(__name__)


def strongest_options(
    space: SearchSpace, strengths: Mapping[str, Sequence[tuple[Option, float]]], number: int
) -> dict[str, list[Option]]:
    """The ``number`` strongest options of each choice, for ``restrict``. The option that is no edge is always among them where an
    architecture keeps a number of edges, because the edges that go take it.
    """
    nothing = {name: join.none for join in space.joins if join.kept is not None for name in join.choices}
    found: dict[str, list[Option]] = {}
    for name, pairs in strengths.items():
        ranked = [option for option, _ in sorted(pairs, key=lambda pair: -float(pair[1]))]
        first = [option for option in ranked if option == nothing.get(name)]
        found[name] = (first + [option for option in ranked if option not in first])[:number]
    return found


def check_strongest(phases: Mapping[str, PhaseSettings], sampler: Sampler) -> None:
    """Raises ValueError where a phase keeps the strongest options, and ``sampler`` knows of none."""
    for name, phase in phases.items():
        if phase.strongest is not None and not isinstance(sampler, DifferentiableSampler):
            raise ValueError(
                f"phases.{name}.strongest={phase.strongest} needs a sampler that learns the architecture by gradient, such as "
                "sampler=drnas"
            )


def narrowed(part: SearchSpace, before: DifferentiableSampler, number: int) -> SearchSpace:
    """The options of ``part`` that the sampler of the phase before found strongest."""
    options = {choice.name: choice.options for choice in before.space.choices}
    strengths = {
        name: list(zip(options[name], values.tolist(), strict=True))
        for name, values in before.option_strengths().items()
    }
    return part.restrict(strongest_options(before.space, strengths, number))


def go_on(supernet: Supernet, before: Sampler | None, sampler: Sampler, generator: torch.Generator) -> None:
    """Gives a phase the architecture parameters that the options which are left had, and, where its options work on more of the
    channels, copies of the channels that are trained.
    """
    if not isinstance(before, DifferentiableSampler) or not isinstance(sampler, DifferentiableSampler):
        return
    options = {choice.name: choice.options for choice in before.space.choices}
    left = {choice.name: choice.options for choice in sampler.space.choices}
    with torch.no_grad():
        for name, values in sampler.parameters.items():
            known = before.parameters.get(name)
            if known is None:
                continue
            if name in left:
                known = known[[options[name].index(option) for option in left[name]]]
            if known.shape == values.shape:
                values.copy_(known)
    if sampler.partial_channels < before.partial_channels:
        wide = sampler.relaxed()
        count = supernet.widen(wide.on_part(before.partial_channels), wide, generator)
        log.info(
            "%d tensors widened from 1/%d to 1/%d of the channels",
            count,
            before.partial_channels,
            sampler.partial_channels,
        )
