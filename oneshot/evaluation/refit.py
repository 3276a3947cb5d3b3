"""Ridge regression of one layer's weights on what reaches it, by its normal equations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)

# Of the mean of the Gram matrix's diagonal. Enough to leave alone what the images do not tell (channels that are silent, or
# copies of others), and a thousand times below what they do tell.
RIDGE = 1e-3
_LEAST_ROWS = (
    1.5  # for each weight of an output: with fewer, a fit follows the images more than what they have in common
)
_PATCH_VALUES = 2**24  # cut out at a time
_TOLERANCE = 1e-3  # relative, between a layer's outputs and those of a plain layer with its weights


class UnfitError(Exception):
    """A layer that cannot be fitted, and why."""


class TooFewPlacesError(UnfitError):
    """The images have too few places to fit a layer on."""


class Fit:
    """The weights, and the bias where there is one, for which a layer's outputs are as they should be, in the sense of least
    squares with a penalty on the distance from the weights that it has. Those are the answer where nothing says otherwise.

    Sums are taken in float64, batch by batch: memory is that of one Gram matrix for each group of the layer.

    Args:
        layer: linear, or a convolution with any stride, padding, dilation and groups.

    Raises:
        UnfitError: it pads in a way that is not known here.
    """

    def __init__(self, layer: Layer) -> None:
        if not isinstance(layer, nn.Linear) and layer.padding_mode != "zeros":
            raise UnfitError(f"it pads with mode {layer.padding_mode!r}")
        self.layer = layer
        self.groups = 1 if isinstance(layer, nn.Linear) else layer.groups
        self.inputs = layer.weight[0].numel()
        outputs = layer.weight.shape[0] // self.groups
        size = self.inputs + (layer.bias is not None)
        device = layer.weight.device
        self._gram = torch.zeros(self.groups, size, size, dtype=torch.float64, device=device)
        self._moment = torch.zeros(self.groups, size, outputs, dtype=torch.float64, device=device)
        self.num_rows = 0

    def add(self, values: Tensor, outputs: Tensor, missing: Tensor, chosen: Tensor | None) -> None:
        """Takes in a batch.

        Args:
            values: what the layer reads.
            outputs: what it makes of that.
            missing: ``(rows, outputs)``, what to add to its outputs, as rows of ``rows_of``, so that they are as they should be.
            chosen: which rows ``missing`` has; None is all.

        Raises:
            UnfitError: it does more to its inputs than a layer of its class.
        """
        rows = patches(self.layer, values, outputs, chosen)  # (rows, groups, inputs)
        if self.num_rows == 0:
            self._check(rows, rows_of(outputs, channel_dim(self.layer), chosen))
        columns = rows.double().transpose(0, 1)
        if self.layer.bias is not None:
            columns = torch.cat([columns, columns.new_ones(*columns.shape[:2], 1)], 2)
        wanted = missing.double().reshape(len(rows), self.groups, -1).transpose(0, 1)
        self._gram.baddbmm_(columns.transpose(1, 2), columns)
        self._moment.baddbmm_(columns.transpose(1, 2), wanted)
        self.num_rows += len(rows)

    @torch.no_grad()
    def solve(self) -> None:
        """Sets the layer's weights and bias.

        Raises:
            TooFewPlacesError: it was given too few rows.
            UnfitError: it was given values that are no finite numbers.
        """
        if self.num_rows < _LEAST_ROWS * self.inputs:
            least = math.ceil(_LEAST_ROWS * self.inputs)
            raise TooFewPlacesError(
                f"{self.inputs} weights of each output are fitted on at least {least} places in the images, and these have "
                f"{self.num_rows}"
            )
        diagonal = self._gram.diagonal(dim1=1, dim2=2)
        strength = RIDGE * diagonal[:, : self.inputs].mean(1, keepdim=True)
        # Groups that nothing reaches keep their weights; the bias is free.
        diagonal[:, : self.inputs] += torch.where(strength > 0, strength, 1.0)
        factor, failed = torch.linalg.cholesky_ex(self._gram)
        change = torch.cholesky_solve(self._moment, factor)
        if failed.any() or not change.isfinite().all():
            raise UnfitError("its inputs are no finite numbers")
        weight = change[:, : self.inputs].transpose(1, 2).reshape(self.layer.weight.shape)
        self.layer.weight.copy_(self.layer.weight.double() + weight)
        if self.layer.bias is not None:
            self.layer.bias.copy_(self.layer.bias.double() + change[:, -1].flatten())

    def _check(self, rows: Tensor, outputs: Tensor) -> None:
        weight = self.layer.weight.detach().reshape(self.groups, -1, self.inputs)
        found = torch.einsum("ngk,gok->ngo", rows, weight).flatten(1)
        if self.layer.bias is not None:
            found += self.layer.bias.detach()
        if not (found - outputs).abs().max() <= _TOLERANCE * outputs.abs().max():
            raise UnfitError(f"it does more than a {type(self.layer).__mro__[1].__name__}")


def channel_dim(layer: nn.Module) -> int:
    """Along which the channels of a layer's inputs and outputs lie."""
    return -1 if isinstance(layer, nn.Linear) else 1


def num_positions(values: Tensor, dim: int) -> int:
    """The vectors of channels, which lie along ``dim``, that an image has."""
    return values.numel() // (len(values) * values.shape[dim])


def rows_of(values: Tensor, dim: int, chosen: Tensor | None) -> Tensor:
    """Vectors of channels ``(rows, channels)``: those of each image one after another, or the ``chosen`` of them."""
    rows = values.movedim(dim, -1).reshape(-1, values.shape[dim])
    return rows if chosen is None else rows[chosen]


def patches(layer: Layer, values: Tensor, outputs: Tensor, chosen: Tensor | None) -> Tensor:
    """What each vector of a layer's ``outputs`` is made of ``(rows, groups, inputs of a group)``, in the order of ``rows_of``."""
    if isinstance(layer, nn.Linear):
        return rows_of(values, -1, chosen).unsqueeze(1)
    kernel, stride, dilation = tuple(layer.kernel_size), tuple(layer.stride), tuple(layer.dilation)
    if layer.weight[0, 0].numel() == 1 and not any(_padding(layer, values)):
        values = values[(slice(None), slice(None), *(slice(None, None, step) for step in stride))]
        rows = rows_of(values, 1, chosen)
        return rows.reshape(len(rows), layer.groups, -1)
    values = nn.functional.pad(values, _padding(layer, values))
    if values.dim() == 3:
        values, kernel, stride, dilation = values[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
    each = num_positions(outputs, 1)
    step = max(1, _PATCH_VALUES // (each * values.shape[1] * kernel[0] * kernel[1]))
    found = []
    for start in range(0, len(values), step):
        unfolded = nn.functional.unfold(values[start : start + step], kernel, dilation, 0, stride)
        rows = unfolded.transpose(1, 2).flatten(0, 1)
        if chosen is not None:
            inside = chosen[(chosen >= start * each) & (chosen < (start + step) * each)]
            rows = rows[inside - start * each]
        found.append(rows)
    rows = torch.cat(found)
    return rows.reshape(len(rows), layer.groups, -1)


def _padding(layer: nn.Conv1d | nn.Conv2d, values: Tensor) -> Sequence[int]:
    """As ``torch.nn.functional.pad`` takes it, the last dimension first."""
    sides: list[int] = []
    for index in reversed(range(len(layer.kernel_size))):
        reach = layer.dilation[index] * (layer.kernel_size[index] - 1)
        if isinstance(layer.padding, str):
            total = reach if layer.padding == "same" else 0
        elif "Same" in type(layer).__name__:  # timm's and others' after TensorFlow's, by the size of the input
            size, stride = values.shape[2 + index], layer.stride[index]
            total = max(0, (-(-size // stride) - 1) * stride + reach + 1 - size)
        else:
            sides += [layer.padding[index]] * 2
            continue
        sides += [total // 2, total - total // 2]
    return sides
