"""BatchNorm recalibration: the statistics of a subnet, measured on training images with the weights it inherits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(module: nn.Module, images: Iterable[Tensor], max_pixels: int = 2**23) -> nn.Module:
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
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    modes = {layer: layer.training for layer in module.modules()}
    momenta = [layer.momentum for layer in norms]
    before = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in norms]
    counts = [0] * len(norms)
    hooks = [layer.register_forward_pre_hook(_count(counts, index)) for index, layer in enumerate(norms)]
    pooled: list[tuple[Tensor, Tensor, int]] = []
    finished = False
    try:
        module.eval()
        for layer in norms:
            layer.training = True  # not `train()`: timm's norms have an activation and dropout of their own
            layer.momentum = 1.0
        for chunk in _chunks(images, max_pixels):
            counts[:] = [0] * len(norms)
            module(chunk)
            measured = [_moments(layer, count) for layer, count in zip(norms, counts, strict=True)]
            pooled = measured if not pooled else [_pool(*pair) for pair in zip(pooled, measured, strict=True)]
        if not pooled and norms:
            raise ValueError("recalibration needs at least one batch of images")
        for layer, (mean, variance, count) in zip(norms, pooled, strict=True):
            if count == 0:  # no image reached this layer
                continue
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance * (count / max(count - 1, 1)))
        finished = True
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum, buffers in zip(norms, momenta, before, strict=True):
            layer.momentum = momentum
            for name, buffer in layer.named_buffers():
                if not finished or name == "num_batches_tracked":
                    buffer.copy_(buffers[name])
        for part, mode in modes.items():
            part.training = mode
    return module


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


def _chunks(images: Iterable[Tensor], max_pixels: int) -> Iterator[Tensor]:
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
