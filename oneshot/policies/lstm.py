"""An LSTM that takes the decisions of any search space one after another (Pham et al., ENAS, ICML 2018, section 2.1)."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, Option, suggest
from oneshot.checking import check_count
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import INACTIVE, Coding

_INITIAL_BOUND = 0.1  # of all weights: ENAS, micro_controller.py


@dataclass(frozen=True)
class ChoicePolicy:
    """What is special about some choices.

    Args:
        tanh_constant: in place of the policy's.
        initial_bias: where the learned bias of an option's logit starts, by option; 0 for others.
        fixed_bias: added to an option's logit behind the tanh, and never learned.
        target: the probability that an option should keep; drifting away costs their Kullback-Leibler divergence.
    """

    tanh_constant: float | None = None
    initial_bias: Mapping[Option, float] = field(default_factory=dict)
    fixed_bias: Mapping[Option, float] = field(default_factory=dict)
    target: Mapping[Option, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicySettings:
    """The shape of an LSTM policy. The defaults are ENAS's for its micro space, without what is special about single choices.

    Args:
        hidden_size: of the LSTM and of the embeddings.
        num_layers: of the LSTM; the published code stacks two.
        temperature: by which logits are divided.
        tanh_constant: logits are ``tanh_constant * tanh(logits)``; None leaves them.
        choices: ``ChoicePolicy`` settings by pattern of choice names; of several that match the last counts.
    """

    hidden_size: int = 64
    num_layers: int = 2
    temperature: float = 1.0
    tanh_constant: float | None = 1.1
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count(1, "policy.", hidden_size=self.hidden_size, num_layers=self.num_layers)
        if not self.temperature > 0:
            raise ValueError(f"policy.temperature is above 0, not {self.temperature}")
        if self.tanh_constant is not None and not self.tanh_constant > 0:
            raise ValueError(f"policy.tanh_constant is above 0, or null for none, not {self.tanh_constant}")
        known = [entry.name for entry in fields(ChoicePolicy)]
        for pattern, special in self.choices.items():
            for name in special:
                if name not in known:
                    raise ValueError(
                        f"policy.choices.{pattern} has no setting {name!r}{suggest(name, known)} (there are: {', '.join(known)})"
                    )


@dataclass(frozen=True)
class Decisions:
    """What a policy says about some architectures.

    Attributes:
        codes: ``(num_archs, num_choices)`` int64, -1 for inactive choices. They are the decisions as they were taken: several
            can build one network in a space with canonical forms.
        log_probs: ``(num_archs,)`` of the whole sequences, in nats.
        entropies: ``(num_archs,)``, the sums of the entropies of the decisions on the way, in nats.
        divergence: mean Kullback-Leibler divergence from the targets over the decisions that have one; 0 without.
        probabilities: ``(num_options,)`` the mean probability of each option of each choice where it was active, NaN where it
            never was.
    """

    codes: Tensor
    log_probs: Tensor
    entropies: Tensor
    divergence: Tensor
    probabilities: Tensor


class LSTMPolicy(nn.Module):
    """A distribution over the architectures of ``space``.

    One step of the LSTM decides one choice, in the order of ``space.choices``; its input is the embedding of the decision before,
    and each choice has embeddings and a softmax of its own. Choices that are inactive after the earlier decisions are passed
    over. ENAS's published controllers point at earlier nodes by attention instead; here, as any space is served, an input is an
    option like any other.

    Args:
        seed: of the initial weights.

    Raises:
        ValueError: a pattern that matches no choice, or an option that a choice does not have.
    """

    start: nn.Parameter
    embedding: nn.Parameter
    weight: nn.Parameter
    bias: nn.Parameter
    fixed_bias: Tensor
    target: Tensor

    def __init__(self, space: SearchSpace, settings: PolicySettings, seed: int = 0) -> None:
        super().__init__()
        self.space, self.settings = space, settings
        self.coding = Coding(space)
        ends = np.cumsum(self.coding.num_options).tolist()
        self._slices = [
            slice(end - count, end) for end, count in zip(ends, self.coding.num_options.tolist(), strict=True)
        ]
        position = {choice.name: index for index, choice in enumerate(space.choices)}
        self._conditions = [_conditions(choice, position, space) for choice in space.choices]
        size, num_options = settings.hidden_size, ends[-1]
        self.cells = nn.ModuleList(nn.LSTMCell(size, size) for _ in range(settings.num_layers))
        self.start = nn.Parameter(torch.empty(size))
        self.embedding = nn.Parameter(torch.empty(num_options, size))
        self.weight = nn.Parameter(torch.empty(num_options, size))
        self.bias = nn.Parameter(torch.zeros(num_options))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name != "bias":
                    parameter.uniform_(-_INITIAL_BOUND, _INITIAL_BOUND, generator=generator)
        self.register_buffer("fixed_bias", torch.zeros(num_options), persistent=False)
        self.register_buffer("target", torch.full((num_options,), math.nan), persistent=False)
        self._tanh_constants = [settings.tanh_constant] * len(space.choices)
        self._specialise(settings.choices)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator) -> Decisions:
        """``count`` architectures from the policy, and what it says about them."""
        return self._walk(count, None, generator)

    def forward(self, codes: Tensor) -> Decisions:
        """What the policy says about the decisions ``codes``, differentiably."""
        return self._walk(len(codes), codes, None)

    def archs(self, codes: Tensor) -> list[Arch]:
        """The architectures that decisions build."""
        return self.coding.decode(self.coding.canonical(codes.numpy()))

    def named_probabilities(self, decisions: Decisions) -> dict[str, dict[Option, float]]:
        """``decisions.probabilities`` by choice and option."""
        values = decisions.probabilities.tolist()
        return {
            choice.name: dict(zip(choice.options, values[where], strict=True))
            for choice, where in zip(self.space.choices, self._slices, strict=True)
        }

    def _walk(self, count: int, given: Tensor | None, generator: torch.Generator | None) -> Decisions:
        size = self.settings.hidden_size
        state = [(torch.zeros(count, size), torch.zeros(count, size)) for _ in self.cells]
        inputs = self.start.expand(count, size)
        columns: list[Tensor] = []
        log_probs, entropies = torch.zeros(count), torch.zeros(count)
        divergences: list[Tensor] = []
        means: list[Tensor] = []
        for index, where in enumerate(self._slices):
            active = self._active(index, columns, count)
            if not active.any():
                columns.append(torch.full((count,), INACTIVE))
                means.append(torch.full((where.stop - where.start,), math.nan))
                continue
            everywhere = bool(active.all())
            x = inputs
            for layer, cell in enumerate(self.cells):
                hidden, memory = cell(x, state[layer])
                if not everywhere:
                    hidden = torch.where(active[:, None], hidden, state[layer][0])
                    memory = torch.where(active[:, None], memory, state[layer][1])
                state[layer] = (hidden, memory)
                x = hidden
            logs = torch.log_softmax(self._logits(index, where, x), dim=1)
            probabilities = logs.exp()
            if given is None:
                taken = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            else:
                taken = given[:, index].clamp(min=0)
            log_probs = log_probs + torch.where(active, logs.gather(1, taken[:, None])[:, 0], 0.0)
            entropies = entropies + torch.where(active, -(probabilities * logs).sum(1), 0.0)
            target = self.target[where]
            if not target[0].isnan():
                divergence = (probabilities * (logs - target.log())).sum(1)
                divergences.append((divergence * active).sum() / active.sum())
            means.append(probabilities.detach()[active].mean(0))
            embedded = self.embedding[where][taken]
            inputs = embedded if everywhere else torch.where(active[:, None], embedded, inputs)
            columns.append(torch.where(active, taken, INACTIVE))
        divergence = torch.stack(divergences).mean() if divergences else torch.zeros(())
        return Decisions(torch.stack(columns, 1), log_probs, entropies, divergence, torch.cat(means))

    def _logits(self, index: int, where: slice, hidden: Tensor) -> Tensor:
        logits = nn.functional.linear(hidden, self.weight[where], self.bias[where]) / self.settings.temperature
        constant = self._tanh_constants[index]
        if constant is not None:
            logits = constant * torch.tanh(logits)
        return logits + self.fixed_bias[where]

    def _active(self, index: int, columns: list[Tensor], count: int) -> Tensor:
        active = torch.ones(count, dtype=torch.bool)
        for parent, allowed in self._conditions[index]:
            active = active & allowed[columns[parent]]  # the last entry is that of an inactive parent, which -1 finds
        return active

    def _specialise(self, special: Mapping[str, Mapping[str, Any]]) -> None:
        names = [choice.name for choice in self.space.choices]
        for pattern, values in special.items():
            matching = fnmatch.filter(names, pattern)
            if not matching:
                raise ValueError(
                    f"policy.choices: {pattern!r} matches no choice of this space{suggest(pattern, names)}"
                )
            settings = ChoicePolicy(**values)
            for name in matching:
                index = names.index(name)
                choice, where = self.space.choices[index], self._slices[index]
                if settings.tanh_constant is not None:
                    self._tanh_constants[index] = settings.tanh_constant
                with torch.no_grad():
                    self.bias[where] = _by_option(choice, settings.initial_bias, 0.0)
                self.fixed_bias[where] = _by_option(choice, settings.fixed_bias, 0.0)
                if settings.target:
                    self.target[where] = _distribution(choice, settings.target)


def _conditions(choice: Choice, position: Mapping[str, int], space: SearchSpace) -> list[tuple[int, Tensor]]:
    """For each condition, the column of the choice asked about and which of its options allow this one; -1 never does."""
    return [
        (
            position[name],
            torch.tensor([*(option in allowed for option in space.choices[position[name]].options), False]),
        )
        for name, allowed in choice.when
    ]


def _by_option(choice: Choice, values: Mapping[Option, float], default: float) -> Tensor:
    for option in values:
        if option not in choice.options:
            raise ValueError(
                f"policy.choices: {choice.name!r} cannot be {option!r}; its options are {list(choice.options)}"
            )
    return torch.tensor([float(values.get(option, default)) for option in choice.options])


def _distribution(choice: Choice, target: Mapping[Option, float]) -> Tensor:
    """The probabilities given, and what they leave in equal parts on the other options."""
    rest = 1.0 - sum(target.values())
    others = len(choice.options) - len(target)
    if min(target.values()) <= 0 or (rest <= 1e-9 if others else abs(rest) > 1e-9):
        raise ValueError(
            f"policy.choices: the target {dict(target)} of {choice.name!r} is no distribution without zeros"
        )
    return _by_option(choice, target, rest / max(1, others))
