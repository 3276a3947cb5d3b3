"""DrNAS (Chen et al., ICLR 2021, section 3.1): weights drawn from a Dirichlet distribution whose concentration is learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation


@dataclass(frozen=True)
class Dirichlet(Relaxation):
    """Concentrations ``elu(parameter) + 1``, as in the published code; gradients pass through the draw (implicit
    reparameterisation).
    """

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        # torch's sampler takes no generator.
        with torch.random.fork_rng([]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return Mix({name: _draw(functional.elu(values) + 1) for name, values in parameters.items()})


def _draw(concentration: Tensor) -> Tensor:
    drawn: Tensor = torch.distributions.Dirichlet(concentration.cpu()).rsample()
    return drawn.to(concentration.device)
