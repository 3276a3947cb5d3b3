"""BatchNorm recalibration: the statistics of a subnet, measured on training images with the weights it inherits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MAX_PIXELS = 2**23

# Mean and unbiased variance of each norm; None for one that no image reached.
Statistics = list[tuple[Tensor, Tensor] | None]


@torch.no_grad()
def recalibrate(module: nn.Module, images: Iterable[Tensor], max_pixels: int = MAX_PIXELS) -> nn.Module:
    """Replaces the running statistics of every BatchNorm of ``module``, in place, by those over all ``images``; returns it.

    The result does not depend on how the images are split into batches: they are joined into chunks of up to ``max_pixels``
    input pixels (8 million: 8,192 images of 32 pixels, 167 of 224), within which every layer sees one batch, and the means and
    variances of several chunks are pooled by their exact formula. Dropout and the like stay off. If anything fails, the module
    has its old statistics, momenta and modes back.

    Args:
        module: the network to recalibrate; pass a copy (``Supernet.extract`` makes one) to keep the original.
        images: batches ``(batch, channels, height, width)``, prepared as for training but without augmentation.
        max_pixels: memory grows with it; a chunk holds at least 32 images.

    Raises:
        ValueError: there are no images.
    """
    with NormStatistics(module) as statistics:
        for chunk in chunks(images, max_pixels):
            statistics.measure(chunk)
        measured = statistics.result()
    set_statistics(module, measured)
    return module


class NormStatistics:
    """Measures the statistics that ``recalibrate`` sets: a context in which ``module`` runs as it does there. Afterwards the
    module has its statistics, momenta and modes back.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._norms = tracking_norms(module)
        self._counts = [0] * len(self._norms)
        self._pooled: list[tuple[Tensor, Tensor, int]] = []

    def __enter__(self) -> Self:
        self._modes = {layer: layer.training for layer in self._module.modules()}
        self._momenta = [layer.momentum for layer in self._norms]
        self._before = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in self._norms]
        self._hooks = [
            layer.register_forward_pre_hook(_count(self._counts, index)) for index, layer in enumerate(self._norms)
        ]
        self._module.eval()
        for layer in self._norms:
            layer.training = True  # not `train()`: timm's norms have an activation and dropout of their own
            layer.momentum = 1.0
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        for layer, momentum, buffers in zip(self._norms, self._momenta, self._before, strict=True):
            layer.momentum = momentum
            for name, buffer in layer.named_buffers():
                buffer.copy_(buffers[name])
        for part, mode in self._modes.items():
            part.training = mode

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of one chunk, its norms normalising with the chunk's own statistics."""
        self._counts[:] = [0] * len(self._norms)
        output = self._module(*args, **kwargs)
        measured = [_moments(layer, count) for layer, count in zip(self._norms, self._counts, strict=True)]
        self._pooled = [_pool(*pair) for pair in zip(self._pooled, measured, strict=True)] if self._pooled else measured
        return output

    def result(self) -> Statistics:
        """The pooled statistics of all chunks.

        Raises:
            ValueError: there were no images.
        """
        if not self._pooled and self._norms:
            raise ValueError("recalibration needs at least one batch of images")
        return [
            None if count == 0 else (mean, variance * (count / max(count - 1, 1)))
            for mean, variance, count in self._pooled
        ]


def tracking_norms(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms of ``module`` that have running statistics."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


@torch.no_grad()
def set_statistics(module: nn.Module, statistics: Statistics) -> None:
    """Sets the running statistics of the norms of ``module`` in place."""
    for layer, measured in zip(tracking_norms(module), statistics, strict=True):
        if measured is None:
            continue
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(measured[0])
        layer.running_var.copy_(measured[1])


def _count(counts: list[int], index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Counts the values of a channel that a layer sees in a chunk."""

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts[index] = inputs[0].numel() // inputs[0].shape[1]

    return hook


def _moments(layer: _BatchNorm, count: int) -> tuple[Tensor, Tensor, int]:
    """Mean, biased variance and count of the chunk just seen; torch keeps the unbiased variance."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    if count == 0:
        return layer.running_mean.clone(), layer.running_var.clone(), 0
    return layer.running_mean.clone(), layer.running_var * ((count - 1) / count), count


def _pool(first: tuple[Tensor, Tensor, int], second: tuple[Tensor, Tensor, int]) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of the union of two samples (Chan et al., 1979, equation 2.1)."""
    (mean, variance, count), (other_mean, other_variance, other_count) = first, second
    total = count + other_count
    if total == 0:
        return first
    share = other_count / total
    shift = other_mean - mean
    return mean + shift * share, variance + (other_variance - variance) * share + shift**2 * share * (1 - share), total


def chunks(images: Iterable[Tensor], max_pixels: int = MAX_PIXELS) -> Iterator[Tensor]:
    """The same images in the same order, joined and cut to chunks whose size does not depend on the given batches."""
    waiting: list[Tensor] = []
    size = 0
    for batch in images:
        size = max(32, max_pixels // (batch.shape[-1] * batch.shape[-2])) if batch.dim() == 4 else max(32, max_pixels)
        waiting.append(batch)
        # The last chunk has at least two images: a norm behind a global pooling would refuse a single one.
        while sum(map(len, waiting)) > size + 1:
            joined = torch.cat(waiting)
            yield joined[:size]
            waiting = [joined[size:]]
    rest = torch.cat(waiting) if waiting else torch.empty(0)
    if len(rest):
        yield rest
