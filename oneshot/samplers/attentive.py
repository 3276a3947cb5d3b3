"""Attentive sampling (Wang et al., AttentiveNAS, CVPR 2021): train the best or the worst of several networks of equal cost."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

from oneshot.arch import Arch, Choice, Option, suggest
from oneshot.checking import check_count
from oneshot.costs import CostTable
from oneshot.samplers.base import Sampler
from oneshot.spaces.base import SearchSpace

_ATTENTION = ("best", "worst")
_NUM_TRIES = 100  # for a network in the wanted bin; as in the published code the last try is taken anyway
_NUM_AUTOMATIC_BINS = 50


class AttentiveSampler(Sampler):
    """The sandwich rule with in-place distillation, whose random networks are chosen: the largest, ``num_random`` networks, and
    the smallest. For each random one a bin of MACs is drawn as often as random architectures fall into it, then
    ``num_candidates`` networks of that bin, and the one with the lowest (or highest) loss on the step's images is trained: the
    best or the worst Pareto front is trained more often than the rest.

    Architectures of a bin are drawn as in the published code: each choice independently, as often as it was seen in the bin
    among ``num_observations`` random architectures.

    Args:
        num_random: networks between the largest and the smallest; published 2.
        num_candidates: published 3.
        attention: "best" (best-up) or "worst" (worst-up).
        bin_macs: width of a bin; published 25e6. None is a fiftieth of the space's range.
        num_observations: random architectures from which the bins are counted.
    """

    teacher_first = True

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        num_random: int = 2,
        num_candidates: int = 3,
        attention: str = "best",
        bin_macs: float | None = None,
        num_observations: int = 20000,
    ) -> None:
        super().__init__(space, seed)
        check_count(1, num_candidates=num_candidates, num_observations=num_observations)
        check_count(0, num_random=num_random)
        if attention not in _ATTENTION:
            raise ValueError(f"attention is 'best' or 'worst', not {attention!r}{suggest(attention, _ATTENTION)}")
        if bin_macs is not None and not bin_macs > 0:
            raise ValueError(f"bin_macs is above 0, or null for a fiftieth of the space's range, not {bin_macs}")
        self.num_random = num_random
        self.num_candidates = num_candidates
        self.prefers_low_loss = attention == "best"
        self._costs = CostTable(space)
        if bin_macs is None:
            smallest, largest = (cost.macs for cost in self._costs.costs([space.smallest, space.largest]))
            bin_macs = max(1.0, (largest - smallest) / _NUM_AUTOMATIC_BINS)
        self.bin_macs = bin_macs
        self._bins, self._counts = self._observe(num_observations)

    def sample(self, step: int) -> list[Arch]:
        return [candidates[0] for candidates in self.proposals(step)]

    def proposals(self, step: int) -> list[list[Arch]]:
        rng = self.rng(step)
        chosen = [self._candidates(rng) for _ in range(self.num_random)]
        return [[self.space.largest], *chosen, [self.space.smallest]]

    def _candidates(self, rng: random.Random) -> list[Arch]:
        (wanted,) = rng.choices(list(self._bins), list(self._bins.values()))
        return [self._draw(wanted, rng) for _ in range(self.num_candidates)]

    def _draw(self, wanted: int, rng: random.Random) -> Arch:
        counts = self._counts[wanted]

        def decision(choice: Choice) -> Option:
            seen = counts[choice.name]
            # A choice that was inactive in all of the bin's architectures can become active with the others' new values.
            return rng.choices(list(seen), list(seen.values()))[0] if seen else rng.choice(choice.options)

        for _ in range(_NUM_TRIES):
            arch = self.space.decide(decision)
            if self._bin(arch) == wanted:
                break
        return arch

    def _observe(self, number: int) -> tuple[Counter[int], dict[int, dict[str, Counter[Option]]]]:
        """How many random architectures fall into each bin, and how often each has which option."""
        rng = random.Random(f"prior {self.seed}")
        bins: Counter[int] = Counter()
        counts: dict[int, dict[str, Counter[Option]]] = defaultdict(lambda: defaultdict(Counter))
        archs = [self.space.sample(rng) for _ in range(number)]
        for arch, cost in zip(archs, self._costs.costs(archs), strict=True):
            index = round(cost.macs / self.bin_macs)
            bins[index] += 1
            for name, option in arch.items():
                counts[index][name][option] += 1
        return bins, counts

    def _bin(self, arch: Arch) -> int:
        return round(self._costs.cost(arch).macs / self.bin_macs)
