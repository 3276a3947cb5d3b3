"""BatchNorm recalibration: the statistics of a subnet, measured on training images with the weights it inherits."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oneshot.batch_norm import several_values, tracking_norms

MAX_PIXELS = 2**23

# Mean and unbiased variance of each norm; None for one that no image reached.
Statistics = list[tuple[Tensor, Tensor] | None]


@torch.no_grad()
def recalibrate(module: nn.Module, images: Iterable[Tensor], max_pixels: int = MAX_PIXELS) -> nn.Module:
    """Replaces the running statistics of every BatchNorm of ``module``, in place, by those over all ``images``; returns it.

    They are measured from scratch, whatever the statistics were, and those of a norm that is called several times over all its
    calls.

    The result does not depend on how the images are split into batches: they are joined into chunks of up to ``max_pixels``
    input pixels (8 million: 8,192 images of 32 pixels, 167 of 224), within which every layer sees one batch, and the means and
    variances of several chunks are pooled by their exact formula. Dropout and the like stay off. If anything fails, the module
    has its old statistics, momenta and modes back.

    Args:
        module: the network to recalibrate; pass a copy (``Supernet.extract`` makes one) to keep the original.
        images: batches ``(batch, channels, height, width)``, prepared as for training but without augmentation.
        max_pixels: memory grows with it; a chunk holds at least 32 images.

    Raises:
        ValueError: there are no images, or a norm is given a single value of a channel.
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
        self._measured: list[_Moments | None] = [None] * len(self._norms)
        self._calls = [0] * len(self._norms)
        self._has_run = False

    def __enter__(self) -> Self:
        self._modes = {layer: layer.training for layer in self._module.modules()}
        self._settings = [(layer.momentum, layer.track_running_stats) for layer in self._norms]
        self._before = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in self._norms]
        self._hooks = [
            layer.register_forward_hook(functools.partial(self._take, index)) for index, layer in enumerate(self._norms)
        ]
        self._module.eval()
        for layer in self._norms:
            layer.training = True  # not `train()`: timm's norms have an activation and dropout of their own
            layer.momentum, layer.track_running_stats = 1.0, True
            for name, buffer in layer.named_buffers():
                if name == "num_batches_tracked":
                    buffer.zero_()
                else:  # a momentum of 1 forgets all values but these: 0 * inf is NaN
                    buffer.nan_to_num_(0, 0, 0)
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        for layer, settings, buffers in zip(self._norms, self._settings, self._before, strict=True):
            layer.momentum, layer.track_running_stats = settings
            for name, buffer in layer.named_buffers():
                buffer.copy_(buffers[name])
        for part, mode in self._modes.items():
            part.training = mode

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of one chunk, its norms normalising with the chunk's own statistics.

        Raises:
            ValueError: a norm is given a single value of a channel.
        """
        self._has_run = True
        with several_values(
            "statistics are measured on at least 2 images (calibration_images, of the training images)"
        ):
            return self._module(*args, **kwargs)

    def result(self) -> Statistics:
        """The pooled statistics of all calls of each norm.

        Raises:
            ValueError: there were no images.
        """
        if self._norms and not self._has_run:
            raise ValueError("recalibration needs at least one batch of images")
        return [None if moments is None else moments.statistics() for moments in self._measured]

    def _take(self, index: int, layer: _BatchNorm, inputs: tuple[Tensor, ...], output: object) -> None:
        """Takes in what the norm of this index has measured in a call."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        calls = self._calls[index] + 1 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)
        if calls == self._calls[index]:
            return  # a norm that never measures: it keeps its statistics
        self._calls[index] = calls
        count = inputs[0].numel() // inputs[0].shape[1]
        # torch keeps the unbiased variance.
        found = _Moments(layer.running_mean.clone(), layer.running_var * ((count - 1) / count), count)
        before = self._measured[index]
        self._measured[index] = found if before is None else before.pooled(found)


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


class _Moments(NamedTuple):
    """Mean and biased variance of the values of each channel, and how many there are."""

    mean: Tensor
    variance: Tensor
    number: int

    def pooled(self, other: _Moments) -> _Moments:
        """Those of the union of two samples (Chan et al., 1979, equation 2.1)."""
        total = self.number + other.number
        share, shift = other.number / total, other.mean - self.mean
        variance = self.variance + (other.variance - self.variance) * share + shift**2 * share * (1 - share)
        return _Moments(self.mean + shift * share, variance, total)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance."""
        return self.mean, self.variance * (self.number / max(self.number - 1, 1))


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
