"""How much a network's blocks do: the change of their stage's output when one of them is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def block_changes(
    network: nn.Module, stages: Mapping[str, Sequence[str]], images: Iterable[Tensor]
) -> dict[str, float]:
    """By the path of each block the norm of the change, over that of the stage's output, as a mean over images.

    Args:
        network: in eval mode.
        stages: blocks whose output has the shape of their input, by the path of the block whose output is their stage's.
    """
    sums: dict[str, float] = defaultdict(float)
    count = 0
    for batch in images:
        count += len(batch)
        for end, blocks in stages.items():
            whole = _output(network, end, batch)
            for block in blocks:
                change = _output(network, end, batch, block).sub_(whole).flatten(1).norm(dim=1)
                sums[block] += float((change / whole.flatten(1).norm(dim=1).clamp_min(1e-12)).sum())
    return {block: total / count for block, total in sums.items()}


class _Reached(Exception):
    """Ends a forward pass with what a module gives."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


def _output(network: nn.Module, end: str, images: Tensor, left_out: str | None = None) -> Tensor:
    hooks = [] if left_out is None else [network.get_submodule(left_out).register_forward_hook(_give_input)]
    hooks.append(network.get_submodule(end).register_forward_hook(_stop))
    try:
        network(images)
    except _Reached as reached:
        return reached.output.double()
    finally:
        for hook in hooks:
            hook.remove()
    raise ValueError(f"{end} is not called")


def _give_input(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    return args[0]


def _stop(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    raise _Reached(output)
