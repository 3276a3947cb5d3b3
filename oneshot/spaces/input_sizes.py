"""The image sizes that a network takes, found by trying on the meta device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from oneshot.arch import Choice
from oneshot.checking import check_count

_STEPS = (4, 8, 14, 16, 28, 32)


def resolution_choice(resolutions: Sequence[int]) -> Choice:
    """The choice of the input size in pixels.

    Raises:
        ValueError: one is no whole number of at least 1.
    """
    for pixels in resolutions:
        check_count(1, resolutions=pixels)
    return Choice("resolution", tuple(sorted(resolutions)))


def sizes_taken(network: nn.Module, shape: Sequence[int], ratios: Sequence[float]) -> list[int]:
    """For every one of ``ratios`` the size nearest to that share of the height of ``shape`` that ``network``, on the meta
    device, takes; without those that it takes at no size nearby.

    Args:
        shape: ``(batch, channels, height, width)`` of images that it is known to take.
    """
    return sorted({size for ratio in ratios if (size := nearest_size(network, shape, shape[-1] * ratio)) is not None})


def nearest_size(network: nn.Module, shape: Sequence[int], wanted: float) -> int | None:
    """The height and width nearest to ``wanted`` that ``network``, on the meta device, takes; None if there is none nearby."""
    return next((size for size in _near(wanted, shape[-1]) if size == shape[-1] or _takes(network, shape, size)), None)


def _near(wanted: float, largest: int) -> Iterator[int]:
    if wanted == largest:
        yield largest
        return
    seen = set()
    for step in _STEPS:
        size = round(wanted / step) * step
        if 0 < size < largest and size not in seen and abs(size - wanted) <= step:
            seen.add(size)
            yield size


def _takes(network: nn.Module, shape: Sequence[int], size: int) -> bool:
    try:
        with torch.no_grad():
            logits = network(torch.empty(1, shape[1], size, size, device="meta"))
    except Exception:  # whatever a forward makes of a size that it does not expect
        return False
    return isinstance(logits, torch.Tensor) and logits.dim() == 2
