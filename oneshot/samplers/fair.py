"""Strictly fair sampling (Chu et al., FairNAS, ICCV 2021, Algorithm 1)."""

from __future__ import annotations

from oneshot.arch import Arch, Option
from oneshot.samplers.base import Sampler


class FairSampler(Sampler):
    """One round a step: as many architectures as the largest number of options, in which every option of every choice with
    that many options occurs exactly once, in an independent random order for each choice. The gradients of the round are added
    up before the weights change. A choice with fewer options repeats some so that their counts differ by at most one, and an
    option of a choice that is inactive in its architecture is not trained in that round.
    """

    def sample(self, step: int) -> list[Arch]:
        rng = self.rng(step)
        rounds = max(len(choice.options) for choice in self.space.choices)
        drawn = {}
        for choice in self.space.choices:
            order: list[Option] = []
            while len(order) < rounds:
                order += rng.sample(choice.options, len(choice.options))
            drawn[choice.name] = rng.sample(order[:rounds], rounds)
        return [self.space.decide(lambda choice, i=i: drawn[choice.name][i]) for i in range(rounds)]  # type: ignore[misc]
