"""DATA (Chang et al., NeurIPS 2019): several draws by Gumbel-max, all of whose options are mixed."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from oneshot.checking import check_count
from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment, Temperature
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, gumbel, one_hot, straight_through


@dataclass(frozen=True)
class EnsembleGumbel(Relaxation):
    """The options that any of ``num_draws`` draws takes, at equal weights that add up to 1; their gradient is that of the soft
    weights of the draw that took them. Where the architecture learns, the other options are computed as constants, so that their
    weights get a gradient too, as in the published code. That divides by the number of options drawn without counting the first
    one, "none"; here all count.

    Args:
        num_draws: published 2 by default (code), 4 and 7 (paper).
        temperature_of: the published code's is 1, whatever the epoch.
    """

    num_draws: int = 2
    temperature_of: Temperature = field(default_factory=Temperature)

    @property
    def takes_one(self) -> bool:
        return self.num_draws == 1

    def __post_init__(self) -> None:
        check_count(1, num_draws=self.num_draws)

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        temperature = self.temperature_of.at(moment)
        weights = {name: self._drawn(values, temperature, generator) for name, values in parameters.items()}
        probed = (
            {}
            if for_weights
            else {name: (values == 0).nonzero().flatten().tolist() for name, values in weights.items()}
        )
        return Mix(weights, probed)

    def _drawn(self, values: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        draws = []
        for _ in range(self.num_draws):
            soft = ((values.log_softmax(0) + gumbel(values, generator)) / temperature).softmax(0)
            draws.append(straight_through(one_hot(int(soft.argmax()), soft), soft))
        taken = torch.stack(draws).max(0).values
        return taken / taken.sum()

    def temperature(self, moment: Moment) -> float:
        return self.temperature_of.at(moment)
