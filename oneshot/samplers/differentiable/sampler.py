"""Architectures relaxed into mixtures of all options and learned by gradient: the family of DARTS."""

from __future__ import annotations

import contextlib
import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from oneshot.arch import Arch, OpenChoiceError, Option, suggest
from oneshot.checking import check_count
from oneshot.mix import Mix
from oneshot.samplers.base import Sampler
from oneshot.samplers.differentiable.deriving import derive
from oneshot.samplers.differentiable.learning import ArchitectureLearning
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.regulariser import Regulariser
from oneshot.samplers.differentiable.relaxation import Relaxation, open_choices
from oneshot.samplers.differentiable.skip_dropout import skip_dropout_at
from oneshot.samplers.differentiable.softmax import Softmax
from oneshot.spaces.base import SearchSpace


class DifferentiableSampler(Sampler):
    """Holds architecture parameters and their optimizer, and makes mixes of them. The weights' optimizer, its decay, clipping and
    averages never see them.

    Args:
        relaxation: how weights over options are drawn.
        learning: how the parameters learn.
        partial_channels: options work on one of so many parts of the channels, and leave the others as they are (Xu et al.,
            PC-DARTS, ICLR 2020, section 3.2; published 4); 1 is all.
        skip_dropout: dropout on options that are an identity, in training: falls from epoch to epoch, see ``skip_dropout_at``.
        max_skips: the most skip connections that are derived, by pattern of choice names, see ``derive``.
        regularisers: what keeps them from going astray, by name, in order.
        threshold: an edge that is derived is at least so strong, where the space keeps a number of edges; FairDARTS 0.85.

    Raises:
        ValueError: the space leaves nothing open, or a setting is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        relaxation: Relaxation | None = None,
        learning: ArchitectureLearning | None = None,
        partial_channels: int = 1,
        skip_dropout: float = 0.0,
        max_skips: Mapping[str, int] | None = None,
        regularisers: Mapping[str, Regulariser] | None = None,
        threshold: float = 0.0,
    ) -> None:
        super().__init__(space, seed)
        if not open_choices(space):
            raise ValueError("every choice has one option: there is nothing to mix")
        if not 0 <= threshold < 1:
            raise ValueError(f"sampler.threshold is from 0 to below 1, not {threshold}")
        self.relaxation = (relaxation or Softmax()).on(space)
        self.learning = learning or ArchitectureLearning()
        check_count(1, "sampler.", partial_channels=partial_channels)
        self.partial_channels = partial_channels
        if not 0 <= skip_dropout < 1:
            raise ValueError(f"sampler.skip_dropout is from 0 to below 1, not {skip_dropout}")
        self.skip_dropout, self.max_skips = skip_dropout, dict(max_skips or {})
        for pattern, most in self.max_skips.items():
            check_count(0, "sampler.", **{f"max_skips[{pattern!r}]": most})
            if not any(fnmatch.fnmatchcase(choice.name, pattern) for choice in space.choices):
                names = [choice.name for choice in space.choices]
                raise ValueError(
                    f"sampler.max_skips: {pattern!r} matches no choice of the space{suggest(pattern, names)}; "
                    "sampler.max_skips=null sets no most"
                )
        self.regularisers = dict(regularisers or {})
        self.threshold = threshold
        for name, regulariser in self.regularisers.items():
            if regulariser.disturbs and self.learning.order == "joint":
                raise ValueError(
                    f"sampler.regularisers.{name} changes what weights alone learn on, and with order=joint the architecture "
                    "learns in the same pass: take order=first or another sampler"
                )
            if regulariser.disturbs and self.relaxation.takes_one:
                raise ValueError(
                    f"sampler.regularisers.{name} moves the weights of options that are mixed, and this sampler takes one of "
                    "each choice: leave it out, or take another sampler"
                )
            with _named(name):
                regulariser.prepare(space)
        self.parameters = {
            name: values.requires_grad_()
            for name, values in self.relaxation.parameters(space, self.generator(-1, "parameters")).items()
        }
        self._optimizer = torch.optim.Adam(
            self.parameters.values(),
            lr=self.learning.lr,
            betas=self.learning.betas,
            weight_decay=self.learning.weight_decay,
        )

    @property
    def architecture_images(self) -> float:
        return self.learning.images

    # Mixes -----------------------------------------------------------------------------------------------------------

    def mix(self, moment: Moment, for_weights: bool = False) -> Mix:
        """The mix of one pass, as constants where the weights learn."""
        generator = self.generator(moment.step, "weights" if for_weights else "architecture")
        with torch.set_grad_enabled(not for_weights):
            mix = self.relaxation.mix(self.parameters, moment, generator, for_weights).on_part(self.partial_channels)
        if self.skip_dropout:
            mix = mix.dropping(skip_dropout_at(self.skip_dropout, moment, self.learning.first_epoch))
        return mix.detach() if for_weights else mix

    def learns(self, moment: Moment) -> bool:
        """Whether the architecture takes a step at this moment."""
        return moment.epoch >= self.learning.first_epoch and moment.step % self.learning.every == 0

    def regularised(self, loss: Tensor, mix: Mix, moment: Moment) -> Tensor:
        """The loss of a pass with what the regularisers make of it."""
        for regulariser in self.regularisers.values():
            loss = regulariser(loss, mix, self.parameters, moment)
        return loss

    def disturbed(self, mix: Mix, loss: Callable[[Mix], Tensor], moment: Moment) -> Mix:
        """The mix on which the weights learn, with what the regularisers make of it; ``loss`` as ``Regulariser.disturbed``."""
        for name, regulariser in self.regularisers.items():
            with _named(name):
                mix = regulariser.disturbed(mix, loss, moment, self.generator(moment.step, name))
        return mix

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """One step of the parameters. Those without a gradient have one of zero: decay and momentum move them, as they do where
        all are one tensor.
        """
        before = {name: values.detach().clone() for name, values in self.parameters.items()}
        for name, values in self.parameters.items():
            values.grad = gradients[name].to(values) if name in gradients else torch.zeros_like(values)
        if self.learning.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.learning.clip_grad)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.relaxation.settle(before, self.parameters)

    def to(self, device: torch.device) -> None:
        """Moves the parameters, before the first step."""
        for values in self.parameters.values():
            values.data = values.data.to(device)

    # What they say ---------------------------------------------------------------------------------------------------

    def strengths(self) -> dict[str, Tensor]:
        """How strong each option of each open choice is, from 0 to 1."""
        return {name: values.cpu() for name, values in self.relaxation.strengths(self.parameters).items()}

    def option_strengths(self) -> dict[str, Tensor]:
        """The same, but of edges that are closed what their options have among themselves."""
        return {name: values.cpu() for name, values in self.relaxation.option_strengths(self.parameters).items()}

    def relaxed(self) -> Mix:
        """The mix by the strengths of the options."""
        return Mix(self.strengths()).on_part(self.partial_channels)

    def derived_mix(self) -> Mix:
        """What is derived, as it was trained."""
        return Mix.one_hot(self.space.choices, self.derived()).on_part(self.partial_channels)

    def derived(self) -> dict[str, Option]:
        """The strongest options, see ``derive``; of all choices, in the form in which they were trained."""
        return derive(self.space, self.strengths(), self.threshold, self.max_skips)

    def sample(self, step: int) -> list[Arch]:
        """An architecture drawn by the strengths of the options; training mixes them instead."""
        strengths, rng = self.strengths(), self.rng(step)
        return [
            self.space.decide(
                lambda choice: (
                    rng.choices(choice.options, strengths[choice.name].tolist())[0]
                    if choice.name in strengths
                    else choice.options[0]
                )
            )
        ]

    def derive(self, step: int) -> list[Arch]:
        """The strongest architecture, in its canonical form."""
        return [self.space.arch(self.derived())]

    def entropy(self) -> float:
        """The mean over the choices of the entropy of their options' shares of the strength, in nats."""
        found = []
        for values in self.strengths().values():
            shares = values.double() / values.double().sum().clamp_min(1e-30)
            found.append(-float(torch.special.xlogy(shares, shares).sum()))
        return math.fsum(found) / len(found)

    def records(self, moment: Moment) -> dict[str, float]:
        """What to record after an epoch, and at what point schedules are: curves by ``"group/name"``."""
        values = {"architecture_entropy/nats": self.entropy(), **self.relaxation.courses(moment)}
        if self.skip_dropout:
            rate = skip_dropout_at(self.skip_dropout, moment, self.learning.first_epoch)
            values["architecture_skip_dropout/rate"] = rate
        strengths = self.strengths()
        for regulariser in self.regularisers.values():
            values |= regulariser.records(strengths, moment)
        return values

    def probabilities(self, step: int) -> Mapping[str, Mapping[Option, float]]:
        strengths = self.strengths()
        return {
            choice.name: dict(zip(choice.options, strengths[choice.name].tolist(), strict=True))
            for choice in open_choices(self.space)
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "parameters": {name: values.detach().cpu().clone() for name, values in self.parameters.items()},
            "optimizer": self._optimizer.state_dict(),
            "partial_channels": self.partial_channels,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict``'s value.

        Raises:
            ValueError: it is that of another space, or of another method.
        """
        saved = state["parameters"]
        shapes = {name: tuple(values.shape) for name, values in self.parameters.items()}
        if {name: tuple(values.shape) for name, values in saved.items()} != shapes:
            raise ValueError("the architecture parameters that were saved are those of another space or method")
        with torch.no_grad():
            for name, values in self.parameters.items():
                values.copy_(saved[name])
        self._optimizer.load_state_dict(state["optimizer"])
        self.partial_channels = state.get("partial_channels", self.partial_channels)

    def generator(self, step: int, purpose: str) -> torch.Generator:
        """The generator of a step, another one for each purpose."""
        return torch.Generator().manual_seed(self.rng(step, purpose).getrandbits(63))


@contextlib.contextmanager
def _named(regulariser: str) -> Iterator[None]:
    """Puts the place of a regulariser before what it says is wrong."""
    try:
        yield
    except OpenChoiceError:  # of the space, not of the regulariser
        raise
    except ValueError as error:
        raise ValueError(f"sampler.regularisers.{regulariser}: {error}") from error
