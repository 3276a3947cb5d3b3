"""Attention heads that a block can do without, found by trial as channel groups are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from oneshot.spaces.channel_groups import is_group, out_width, producers
from oneshot.spaces.groups import Group, Number, named_tensors
from oneshot.spaces.trials import Baseline, Inputs, Trial

_COUNTS = ("num_heads", "heads", "n_heads", "num_attention_heads", "nh")


def find_head_groups(inputs: Inputs, taken: set[str]) -> tuple[list[Group], dict[str, str]]:
    """The groups of attention heads of a block, and by layer why others do not make one; see ``find_channel_groups``."""
    skeleton = inputs.meta()
    baseline: Baseline | None = None
    groups: list[Group] = []
    reasons: dict[str, str] = {}
    for name, module in skeleton.block.named_modules():
        count = next((vars(module)[key] for key in _COUNTS if isinstance(vars(module).get(key), int)), 1)
        inside = {f"{name}.{layer}" if name else layer: made for layer, made in producers(module).items()}
        if count < 2 or len(inside) < 2 or any(layer in taken for layer in inside):
            continue
        baseline = baseline or Baseline.of(skeleton)
        found = _find(inputs, baseline, name, count, inside)
        if isinstance(found, str):
            reasons |= dict.fromkeys(inside, found)
        else:
            group, makers = found
            groups.append(group)
            taken.update(makers)
    return groups, reasons


def _find(
    inputs: Inputs, baseline: Baseline, name: str, count: int, inside: dict[str, nn.Module]
) -> tuple[Group, list[str]] | str:
    module = baseline.inputs.block.get_submodule(name)
    reason = "no layer makes queries, keys and values for its heads"
    for makers, inner in _hypotheses(inside, count):
        options = itertools.product(_numbers(name, module, count, inner), _extras(name, module, count, makers))
        for numbers, extra in options:
            widths = {out_width(inside[layer]): parts for layer, parts in makers.items()}
            found = Trial(baseline, count, inner // count).run(makers, {inner: 1} | widths, numbers, extra)
            if isinstance(found, str):
                reason = found
                continue
            for group in found:
                if is_group(inputs, group):
                    return group, list(makers)
            reason = "exchanging its heads changes the output"
    return reason


def _hypotheses(inside: dict[str, nn.Module], count: int) -> Iterator[tuple[dict[str, int], int]]:
    """Layers that make queries, keys and values, and how many of these each makes; and the channels of one of them."""
    layers = list(inside)
    inner = inside[layers[-1]].weight.shape[1]  # type: ignore[index]
    candidates = [layer for layer in layers[:-1] if out_width(inside[layer]) % count == 0]
    fused = {layer: max(1, out_width(inside[layer]) // int(inner)) for layer in candidates}
    if inner % count == 0 and fused:
        yield fused, int(inner)
        first = {layer: parts for layer, parts in fused.items() if out_width(inside[layer]) % inner == 0}
        if first and first != fused:
            yield first, int(inner)
    if fused and any(parts > 1 for parts in fused.values()):
        yield dict.fromkeys(fused, 1), int(out_width(inside[candidates[0]]))


def _numbers(name: str, module: nn.Module, count: int, inner: int) -> Iterator[list[Number]]:
    """Attributes that count heads, or channels of all heads: those that are surely so first."""
    heads: list[Number] = [(name, key, None) for key in _COUNTS if vars(module).get(key) == count]
    widths: list[Number] = [
        (name, key, None)
        for key, value in vars(module).items()
        if isinstance(value, int) and not isinstance(value, bool) and value == inner and (name, key, None) not in heads
    ]
    sure = [pair for pair in widths if pair[1] not in ("dim", "in_features", "embed_dim")]
    seen: list[list[Number]] = []
    for chosen in (heads + sure, heads, heads + widths):
        if chosen not in seen:
            seen.append(chosen)
            yield chosen


def _extras(name: str, module: nn.Module, count: int, makers: dict[str, int]) -> Iterator[dict[str, int]]:
    """Tensors with an entry for each head, such as tables of relative positions; none of them where that fails."""
    found: dict[str, int] = {}
    for local, tensor in named_tensors(module):
        full = f"{name}.{local}" if name else local
        dims = [dim for dim, size in enumerate(tensor.shape) if size == count]
        if len(dims) == 1 and full.rpartition(".")[0] not in makers and not _is_index(tensor):
            found[full] = dims[0]
    yield found
    if found:
        yield {}


def _is_index(tensor: Any) -> bool:
    return not torch.is_floating_point(tensor)
