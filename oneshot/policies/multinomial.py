"""Independent probabilities for every choice, moved by accuracy against training (Zheng et al., MdeNAS, ICCV 2019)."""

from __future__ import annotations

import math
import random
from typing import Any

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces.base import SearchSpace


class MultinomialPolicy:
    """A distribution for each choice of ``space``. Of two options of a choice, the one that was tried no more often and did
    better the last time takes ``lr`` of the other's probability.

    The rule is the published one. It never raises an option that was tried more often than the others, so that it finds the best
    option of a choice whose rewards do not vary, and hardly any where they depend on other choices as well.

    Args:
        lr: published 0.01.
    """

    def __init__(self, space: SearchSpace, lr: float = 0.01) -> None:
        if not 0 < lr <= 1:
            raise ValueError(f"lr lies above 0 and at most at 1, not {lr}")
        self.space, self.lr = space, lr
        self.probabilities = {
            choice.name: dict.fromkeys(choice.options, 1 / len(choice.options)) for choice in space.choices
        }
        self._tries = {choice.name: dict.fromkeys(choice.options, 0) for choice in space.choices}
        self._rewards = {choice.name: dict.fromkeys(choice.options, 0.0) for choice in space.choices}

    def draw(self, rng: random.Random) -> Arch:
        """An architecture from the policy."""
        return self.space.decide(lambda choice: self._draw(choice, rng))

    def update(self, arch: Arch, reward: float) -> None:
        """Learns from one architecture, as in the published code (XNAS, ``search_algorithm/MDENAS.py``): an option's reward
        is that of the last architecture that had it, and the choices that the architecture does not have stay as they are.
        """
        for name, taken in arch.items():
            tries, rewards, probabilities = self._tries[name], self._rewards[name], self.probabilities[name]
            tries[taken] += 1
            rewards[taken] = reward
            options = list(probabilities)
            for position, one in enumerate(options):
                for other in options[position + 1 :]:
                    if tries[one] >= tries[other] and rewards[one] < rewards[other]:
                        _shift(probabilities, one, other, self.lr)
                    if tries[one] <= tries[other] and rewards[one] > rewards[other]:
                        _shift(probabilities, other, one, self.lr)

    def entropy(self) -> float:
        """The sum of the entropies of all choices, in nats; inactive ones are counted too."""
        return -sum(p * math.log(p) for values in self.probabilities.values() for p in values.values() if p > 0)

    def state_dict(self) -> dict[str, Any]:
        """Probabilities and the record that they come from."""
        return {
            name: {choice: list(values.values()) for choice, values in part.items()}
            for name, part in self._parts().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict``'s value."""
        for name, part in self._parts().items():
            for choice, values in state[name].items():
                part[choice].update(zip(part[choice], values, strict=True))

    def _parts(self) -> dict[str, dict[str, dict[Option, Any]]]:
        return {"probabilities": self.probabilities, "tries": self._tries, "rewards": self._rewards}

    def _draw(self, choice: Choice, rng: random.Random) -> Option:
        probabilities = self.probabilities[choice.name]
        (option,) = rng.choices(list(probabilities), list(probabilities.values()))
        return option


def _shift(probabilities: dict[Option, float], source: Option, target: Option, amount: float) -> None:
    moved = min(amount, probabilities[source])
    probabilities[source] -= moved
    probabilities[target] += moved
