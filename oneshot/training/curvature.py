"""How sharp a loss is: the largest eigenvalue of its Hessian, and what follows for the architecture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oneshot.processes import add_up
from oneshot.samplers import DifferentiableSampler, EarlyStopping, Moment

log = logging.getLogger(__name__)


def largest_eigenvalue(loss: Tensor, parameters: list[Tensor], tolerance: float = 1e-3) -> float:
    """The largest eigenvalue of the Hessian of ``loss``, by Lanczos iterations of products with vectors (Pearlmutter, 1994), each
    of which is one backward pass. Of a loss that several processes share out, each gives its part.

    Args:
        tolerance: relative accuracy.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    slope = torch.cat(
        [
            torch.zeros_like(values).reshape(-1) if grad is None else grad.reshape(-1)
            for values, grad in zip(parameters, gradients, strict=True)
        ]
    )
    if not slope.requires_grad:
        return 0.0
    sizes = [values.numel() for values in parameters]

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        direction = torch.from_numpy(np.ascontiguousarray(vector.reshape(-1))).to(slope)
        found = torch.autograd.grad(slope, parameters, direction, retain_graph=True, allow_unused=True)
        flat = [
            torch.zeros(size, dtype=slope.dtype) if part is None else part.detach().cpu().reshape(-1)
            for size, part in zip(sizes, found, strict=True)
        ]
        whole = torch.cat(flat).double()
        add_up([whole])
        return whole.numpy()

    size = sum(sizes)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    (value,) = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)
    return float(value)


class Curvature:
    """The eigenvalues of a training, and the architecture of each of their epochs, to one of which it may go back.

    Attributes:
        stopped: after which epoch the architecture was frozen, and as of which one; None where it was not.
    """

    def __init__(self, settings: EarlyStopping, sampler: DifferentiableSampler) -> None:
        self.settings, self.sampler = settings, sampler
        self.stopped: tuple[int, int] | None = None
        self._epochs: list[int] = []
        self._eigenvalues: list[float] = []
        self._parameters: list[dict[str, Tensor]] = []

    def end_epoch(self, moment: Moment, loss: Callable[[], Tensor]) -> dict[str, float]:
        """Measures where an eigenvalue is due, stops where it has grown too much, and returns what to record.

        Args:
            moment: of the epoch's last step.
            loss: of the relaxed network, on images of the architecture.
        """
        if not self.settings.measures(moment.epoch, moment.epochs):
            return {}
        parameters = self.sampler.parameters
        value = largest_eigenvalue(loss(), list(parameters.values()))
        found = {"architecture_eigenvalue/largest eigenvalue": value}
        self._eigenvalues.append(value)
        if self.stopped is not None:
            return found
        self._epochs.append(moment.epoch)
        self._parameters.append({name: values.detach().cpu().clone() for name, values in parameters.items()})
        position = self.settings.back_to(self._epochs, self._eigenvalues)
        if position is not None:
            self.stopped = moment.epoch, self._epochs[position]
            with torch.no_grad():
                for name, values in parameters.items():
                    values.copy_(self._parameters[position][name])
            self._parameters.clear()
            log.warning("the architecture is frozen: %s; only weights learn from here on", self.why)
        return found

    @property
    def why(self) -> str:
        """In words, why it was frozen; "" where it was not."""
        if self.stopped is None:
            return ""
        after, back = (epoch + 1 for epoch in self.stopped)
        return (
            f"after epoch {after} the largest eigenvalue of its loss had grown by more than a factor of "
            f"{1 / (self.settings.ratio or 1):.3g}, so it is that of epoch {back} (RobustDARTS)"
        )

    @property
    def course(self) -> str:
        """In words, how the eigenvalue went; "" before the first."""
        if not self._eigenvalues:
            return ""
        return f"from {self._eigenvalues[0]:.3g} to {self._eigenvalues[-1]:.3g}"

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": list(self._epochs),
            "eigenvalues": list(self._eigenvalues),
            "parameters": list(self._parameters),
            "stopped": None if self.stopped is None else list(self.stopped),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores ``state_dict``'s value."""
        self._epochs, self._eigenvalues = list(state["epochs"]), list(state["eigenvalues"])
        self._parameters = list(state["parameters"])
        self.stopped = None if state["stopped"] is None else tuple(state["stopped"])
