"""Channel groups: what inside a block can be made narrower, found by trial on any block and verified on numbers.

Nothing is traced and no architecture is known by name. One layer of the block is made narrower on the meta device, and every
layer behind it is adapted to the width that reaches it. Where the block's output keeps its shape, the tensors that changed
hold the same channels. They are believed only if permuting these channels leaves the block's output as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from oneshot.spaces.groups import Group, like, owner_of
from oneshot.spaces.trials import CONVOLUTIONS, Baseline, Inputs, Trial, fresh_copy, tensors_in

_SMALLEST = 8  # channels that are taken away in a trial, or one group of a grouped convolution where that is more
_MAX_TRIALS = 12
_TOLERANCE = {
    torch.float64: 1e-6,
    torch.float32: 1e-3,
}  # relative; what is no group changes the output by 1e-2 and more


def producers(block: nn.Module) -> dict[str, nn.Module]:
    """The layers of a block that make channels: linear layers and convolutions that are not grouped, by name."""
    return {
        name: module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, CONVOLUTIONS) and module.groups == 1)
    }


def out_width(module: nn.Module) -> int:
    """The channels that a linear layer or a convolution makes."""
    return int(module.weight.shape[0])  # type: ignore[index]


def find_channel_groups(inputs: Inputs, taken: set[str]) -> tuple[list[Group], dict[str, str]]:
    """The channel groups of a block in eval mode, and by layer why others do not make one.

    Args:
        inputs: the block with random weights, and real values for it.
        taken: names of producers that other groups hold already; those found are added.
    """
    others = set(taken)
    # Where groups are many, one look at all of them saves as many runs of the block.
    groups, reasons = _find_all(inputs, taken, lambda *_: True)
    if are_groups(inputs, groups):
        return groups, reasons
    taken.intersection_update(others)
    return _find_all(inputs, taken, is_group)


def _find_all(
    inputs: Inputs, taken: set[str], is_believed: Callable[[Inputs, Group], bool]
) -> tuple[list[Group], dict[str, str]]:
    skeleton = inputs.meta()
    baseline = Baseline.of(skeleton)
    makers = {name: module for name, module in producers(skeleton.block).items() if name not in taken}
    groups: list[Group] = []
    reasons: dict[str, str] = {}
    for position, (name, module) in enumerate(makers.items()):
        if name in taken:
            continue
        width = out_width(module)
        later = [other for other in list(makers)[position + 1 :] if other not in taken]
        found = _find(
            inputs, baseline, name, width, {other: out_width(makers[other]) / width for other in later}, is_believed
        )
        if isinstance(found, str):
            reasons[name] = found
        else:
            groups.append(found[0])
            taken.update(found[1])
    return groups, reasons


def _find(
    inputs: Inputs,
    baseline: Baseline,
    name: str,
    width: int,
    others: dict[str, float],
    is_believed: Callable[[Inputs, Group], bool],
) -> tuple[Group, list[str]] | str:
    reason, too_late = "", set[str]()
    for team in _teams(name, width, others):
        if not too_late.isdisjoint(team):
            continue
        parts = team[name]
        size = _unit(baseline.inputs.block, width // parts)
        removed = math.ceil(_SMALLEST / size)
        if width % (parts * size) or width // (parts * size) <= removed:
            reason = reason or "it is narrow"
            continue
        trial = Trial(baseline, width // (parts * size), size, removed)
        found = trial.run(team)
        if isinstance(found, str):
            reason = reason or found
            if team == {name: 1}:  # what was called after that failed cannot mend it
                too_late = {other for other in others if other in baseline.reaching and other not in trial.reached}
            continue
        for group in found:
            if (is_group if len(found) > 1 else is_believed)(inputs, group):
                return group, list(team)
        reason = "exchanging its channels changes the output"
    return reason


def _teams(name: str, width: int, others: dict[str, float]) -> Iterator[dict[str, int]]:
    """What is to shrink together, and how many sets of the channels each makes; the likeliest first: the layer alone, with one of
    equal width (the gates of squeeze and excitation), as two parts, which a gated layer multiplies, with one of twice the
    width, with several.

    Args:
        others: later layers, and how many times as wide they are.
    """
    equal = [other for other, ratio in others.items() if ratio == 1]
    yield {name: 1}
    if len(equal) > 4:  # a residual stream, for instance
        yield dict.fromkeys([name, *equal], 1)
    yield from ({name: 1, other: 1} for other in equal[:_MAX_TRIALS])
    if width % 2 == 0:
        yield {name: 2}
    yield from ({name: 1, other: 2} for other, ratio in others.items() if ratio == 2)
    if 1 < len(equal) <= 4:
        for number in range(len(equal), 1, -1):
            yield from (dict.fromkeys([name, *team], 1) for team in itertools.combinations(equal, number))


def _unit(block: nn.Module, width: int) -> int:
    """Channels that have to stay together: those of a group of the grouped convolutions and norms of that width."""
    sizes = [
        module.in_channels // module.groups
        for module in block.modules()
        if isinstance(module, CONVOLUTIONS) and module.groups > 1 and module.in_channels == width
    ] + [
        module.num_channels // module.num_groups
        for module in block.modules()
        if isinstance(module, nn.GroupNorm) and module.num_groups > 1 and module.num_channels == width
    ]
    return math.lcm(*sizes) if sizes else 1


def is_group(inputs: Inputs, group: Group) -> bool:
    """Whether exchanging the units of ``group`` leaves the block's output as it is, to rounding."""
    return are_groups(inputs, [group])


def are_groups(inputs: Inputs, groups: Iterable[Group]) -> bool:
    """Whether exchanging the units of each of ``groups``, all at once, leaves the block's output as it is, to rounding."""
    block = fresh_copy(inputs.block)
    for group in groups:
        order = torch.randperm(group.units, generator=torch.Generator().manual_seed(group.units))
        for name, place in group.members.items():
            _, kind, local = owner_of(block, name)
            kind[local] = like(kind[local], place.reordered(kind[local].detach(), order))
    after = tensors_in(Inputs(block, inputs.args, inputs.kwargs).run())
    return all(
        bool((one - other).abs().max() <= _TOLERANCE[one.dtype] * one.abs().max())
        for one, other in zip(inputs.reference, after, strict=True)
        if one.is_floating_point()
    )
