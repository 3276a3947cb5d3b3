"""Supernets whose architecture learns by gradient, step by step with the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from oneshot.convolutions import convolving
from oneshot.data import ImageData, Images, augment
from oneshot.mix import Mix
from oneshot.processes import Share, add_up, share_of
from oneshot.report import Graph
from oneshot.samplers import DifferentiableSampler, Moment
from oneshot.samplers.differentiable.deriving import count_skips, is_skip
from oneshot.samplers.differentiable.signs import collapsed, cut_off, undecided
from oneshot.spaces.graph import HasCells
from oneshot.supernet import Supernet
from oneshot.training.curvature import Curvature
from oneshot.training.engine import Engine
from oneshot.training.randomness import make_generator
from oneshot.training.tasks import HELPS, NonFiniteLossError, StepResult, SupernetTask
from oneshot.training.unrolling import added_gradients, unrolled_gradients

log = logging.getLogger(__name__)


class ArchitectureImages:
    """Batches of the images from which the architecture learns: each image once, then again in another order. A batch is a
    function of the seed and the step.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, images: Images, data: ImageData, batch_size: int, seed: int) -> None:
        if not len(images):
            raise ValueError(
                "no training images are left for the architecture to learn from: raise sampler.learning.images"
            )
        self.images, self._data, self._seed = images, data, seed
        self.batch_size = min(batch_size, len(images))

    @property
    def share(self) -> Share:
        """Which rows of a batch this process takes."""
        return share_of(self.batch_size)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Augmented uint8 images ``(batch, 3, size, size)`` and their labels, of this process's share of the batch."""
        count = len(self.images) // self.batch_size
        order = torch.randperm(len(self.images), generator=make_generator("architecture", self._seed, number // count))
        chosen = order[number % count * self.batch_size :][: self.batch_size]
        crops = make_generator("architecture crops", self._seed, number)
        ((images, labels),) = self.images.training_batches([chosen], self._data.augmentation, iter([crops]), self.share)
        pixels = make_generator("architecture pixels", self._seed, number)
        return augment(images, self._data.augmentation, pixels, self.share), labels


class ArchitectureTask(SupernetTask):
    """Trains weights on mixes of a ``DifferentiableSampler``, and before them, in the same step, its architecture parameters: the
    weights are then constants, and so are the architecture's where the weights learn.

    Normalisation is by the batch in either pass; only the weights' pass updates running statistics.

    Args:
        images: what the architecture learns from; None where it learns together with the weights.
        first_step, steps_per_epoch, epochs: of this part of the training.
        ended_after: epochs of a training that has ended and is only tuned now: schedules stay where they were in the last of
            them, and nothing is said of what would be derived.
        label_smoothing: of the weights' loss; the architecture's has none.
        image_size: input size in pixels to train at instead of the space's own.
    """

    sampler: DifferentiableSampler

    def __init__(
        self,
        supernet: Supernet,
        sampler: DifferentiableSampler,
        images: ArchitectureImages | None,
        steps_per_epoch: int,
        epochs: int,
        first_step: int = 0,
        label_smoothing: float = 0.0,
        image_size: int | None = None,
        ended_after: int | None = None,
    ) -> None:
        super().__init__(supernet, sampler, label_smoothing, image_size=image_size)
        self._images = images
        self._first_step, self._steps_per_epoch, self._epochs = first_step, steps_per_epoch, epochs
        self._ended_after = ended_after
        mix = sampler.mix(self.moment(first_step), for_weights=True)
        supernet.may_crash(mix)  # a space that cannot be mixed is refused before anything is trained
        self._resolution_of_all = image_size or supernet.input_shape(mix)[-1]
        self._losses: list[Tensor] = []
        stopping = sampler.learning.stopping
        self._curvature = None if stopping is None else Curvature(stopping, sampler)
        if stopping is not None and sampler.relaxation.takes_one:
            raise ValueError(
                "sampler.learning.stopping needs the second derivatives of a mixture, and this sampler takes one option of each "
                "choice: leave it out, or take another relaxation"
            )
        if stopping is not None and stopping.ratio is not None and not stopping.can_stop(epochs):
            log.warning(
                "sampler.learning.stopping never stops in %d epochs: it compares %d eigenvalues, one every %d epochs, from "
                "epoch %d on",
                epochs, stopping.distance + stopping.window // 2 + 1, stopping.every, stopping.first_epoch,
            )  # fmt: skip
        first_epoch = sampler.learning.first_epoch
        if ended_after is None and first_epoch >= epochs:
            log.warning(
                "sampler.learning.first_epoch=%d of %d epochs: the architecture never learns", first_epoch, epochs
            )
        elif ended_after is None and first_epoch:
            log.info("the architecture is frozen until epoch %d: only weights learn", first_epoch)

    def moment(self, step: int) -> Moment:
        """Where ``step`` lies in this part of the training."""
        if self._ended_after is not None:
            return Moment(step, self._ended_after - 1, self._ended_after)
        return Moment(step, (step - self._first_step) // self._steps_per_epoch, self._epochs)

    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        moment = self.moment(step)
        inputs = engine.prepare(images, self._resolution_of_all)
        learns = self.sampler.learns(moment) and not self._is_frozen
        if self._images is not None and learns:
            self._learn(inputs, labels, moment, engine, self._images)
        together = self._images is None and learns
        mix = self.sampler.mix(moment, for_weights=not together)
        if not together:
            loss_here = self._loss_of(inputs, labels, engine)
            mix = self.sampler.disturbed(mix, lambda mix: loss_here(mix) * engine.share.weight, moment)
        with engine.precision(), convolving(self.supernet.may_crash(mix), inputs):
            logits = self.supernet(inputs, mix)
            loss = self.criterion(logits, labels)
        self._check(loss, step)
        engine.backward(self.sampler.regularised(loss, mix, moment) if together else loss)
        if together:
            self._note(loss, engine.share)
            gradients = {
                name: values.grad / engine.loss_scale
                for name, values in self.sampler.parameters.items()
                if values.grad is not None
            }
            add_up(list(gradients.values()))
            self.sampler.step(gradients)
        return StepResult(loss.detach(), (logits.detach().argmax(1) == labels).float().mean())

    def _learn(
        self, inputs: Tensor, labels: Tensor, moment: Moment, engine: Engine, images: ArchitectureImages
    ) -> None:
        others_loss_of = self._loss_on(images, moment.step, inputs.device, engine)
        names, parameters = zip(*self.sampler.parameters.items(), strict=True)

        loss_of = self._loss_of(inputs, labels, engine)

        def other_loss() -> Tensor:
            mix = self.sampler.mix(moment)
            loss = others_loss_of(mix)
            self._check(loss, moment.step)
            self._note(loss, images.share)
            return self.sampler.regularised(loss, mix, moment) * images.share.weight

        if self.sampler.learning.order == "second":
            gradients = unrolled_gradients(
                engine.optimizer,
                parameters,
                lambda: loss_of(self.sampler.mix(moment)) * engine.share.weight,
                other_loss,
                self.sampler.learning.epsilon,
            )
        else:
            gradients = added_gradients(other_loss(), parameters)
        self.sampler.step(
            {name: gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
        )

    def _note(self, loss: Tensor, share: Share) -> None:
        """Notes the loss of a batch that several processes may share out."""
        whole = loss.detach() * share.weight
        add_up([whole])
        self._losses.append(whole)

    @property
    def _is_frozen(self) -> bool:
        return self._curvature is not None and self._curvature.stopped is not None

    def _loss_on(
        self, images: ArchitectureImages, number: int, device: torch.device, engine: Engine
    ) -> Callable[[Mix], Tensor]:
        """The loss of mixes on a batch of the architecture's images."""
        others, labels = images.batch(number)
        return self._loss_of(engine.prepare(others.to(device), self._resolution_of_all), labels.to(device), engine)

    def _loss_of(self, inputs: Tensor, labels: Tensor, engine: Engine) -> Callable[[Mix], Tensor]:
        """The loss of mixes on prepared images, by the batch: statistics stay as they are. Without dropout, but for the mix's on
        skip connections, as in P-DARTS's code.
        """

        def loss(mix: Mix) -> Tensor:
            with engine.precision(), convolving(self.supernet.may_crash(mix), inputs):
                logits = self.supernet(inputs, mix, dropout=False, statistics="batch")
                return torch.nn.functional.cross_entropy(logits, labels)

        return loss

    def _check(self, loss: Tensor, step: int) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the loss is {loss.item()} at step {step} of a mix of all options; {HELPS}")

    def end_epoch(self, step: int, engine: Engine) -> Mapping[str, float]:
        moment = self.moment(step - 1)
        values = self.sampler.records(moment)
        if self._losses:
            values["architecture_loss/architecture"] = torch.stack(self._losses).mean().item()
            self._losses.clear()
        if self._curvature is not None and self._images is not None:
            device = next(iter(self.supernet.parameters())).device
            loss_of = self._loss_on(self._images, step - 1, device, engine)
            weight = self._images.share.weight
            # Of the whole mix: what dropout leaves of it would be another function each time.
            values |= self._curvature.end_epoch(
                moment, lambda: loss_of(self.sampler.mix(moment).dropping(0.0)) * weight
            )
        if self._has_skips:
            values["derived_skips/skip connections"] = count_skips(self.sampler.space, self.sampler.derived())[0]
        if self._ended_after is None and moment.epoch + 1 == self._epochs:
            for sign in self._signs:
                log.warning("%s", sign)
        return values

    @property
    def _has_skips(self) -> bool:
        return any(is_skip(option) for choice in self.sampler.space.choices for option in choice.options)

    @property
    def _signs(self) -> list[str]:
        """Why what is derived now may not be worth much."""
        course = "" if self._curvature is None else self._curvature.course
        space, derived = self.sampler.space, self.sampler.derived()
        return [
            *self._blind(),
            *collapsed(space, derived, course),
            *cut_off(space, derived, self.sampler.threshold),
            *(undecided(self.sampler.option_strengths()) if self.sampler.learning.first_epoch < self._epochs else ()),
        ]

    @torch.no_grad()
    def _blind(self) -> list[str]:
        """A line where what is derived gives all images the same logits."""
        (arch,) = self.sampler.derive(0)
        device = next(iter(self.supernet.parameters())).device
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, *self.sampler.space.input_shape(arch), generator=generator).to(device)
        one, other = self.supernet.extract(arch).eval()(images).cpu().double()
        if not torch.allclose(one, other, rtol=1e-6, atol=1e-9):
            return []
        return [
            "nothing leads from the input of the derived network to its output: it gives all images the same answer"
        ]

    def facts(self) -> Mapping[str, str]:
        found = {}
        if self._curvature is not None:
            found["largest eigenvalue"] = self._curvature.course
            found["architecture"] = f"frozen: {self._curvature.why}" if self._is_frozen else "learned to the end"
        if self._ended_after is None and (signs := self._signs):
            found["warning"] = "; ".join(signs)
        return found

    def graphs(self) -> Sequence[Graph]:
        space = self.sampler.space
        cells = space.graphs(self.sampler.derive(0)[0]) if isinstance(space, HasCells) else {}
        return [Graph(name, cell.nodes, cell.edges) for name, cell in cells.items()]

    def state_dict(self) -> dict[str, Any]:
        curvature = {} if self._curvature is None else {"curvature": self._curvature.state_dict()}
        return {"sampler": self.sampler.state_dict(), "losses": [float(loss) for loss in self._losses], **curvature}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._losses = [torch.tensor(loss) for loss in state["losses"]]
        if self._curvature is not None:
            self._curvature.load_state_dict(state["curvature"])
