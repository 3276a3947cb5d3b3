"""What is trained: a supernet along sampled paths, or one subnet."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Option
from oneshot.batch_norm import Statistics, normalising, with_batch_statistics
from oneshot.convolutions import convolving, may_crash
from oneshot.processes import Share, add_up
from oneshot.report import Graph
from oneshot.samplers import Sampler
from oneshot.supernet import Supernet
from oneshot.training.distillation import Distillation
from oneshot.training.engine import Engine
from oneshot.training.rewards import HeldOutReward

_IN_PLACE = Distillation()
HELPS = "a lower trainer.lr, a longer trainer.warmup_epochs or a smaller trainer.clip_grad usually helps"


class NonFiniteLossError(RuntimeError):
    """The loss, or a weight, became NaN or infinite; the message says in which step."""


@dataclass(frozen=True)
class StepResult:
    """Mean loss of the step's networks, and the share of labels that the first of them gets right."""

    loss: Tensor
    accuracy: Tensor


class Task(ABC):
    """A module and how one batch trains it.

    Attributes:
        kind: what a checkpoint of it holds, "supernet" or "subnet".
        module: the parameters that the optimizer sees.
        statistics: what batch normalisation goes by, see ``oneshot.batch_norm.normalising``.
    """

    kind: str
    module: nn.Module
    statistics: Statistics

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        """Adds the gradients of one batch of augmented uint8 images ``(batch, 3, size, size)``.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite; the gradients are then of no use.
        """

    def end_epoch(self, step: int, engine: Engine) -> Mapping[str, float]:
        """Called after every epoch, ``step`` steps into the training; returns what to record."""
        return {}

    def graphs(self) -> Sequence[Graph]:
        """The cells of an architecture that was derived, for the page of the run."""
        return ()

    def facts(self) -> Mapping[str, str]:
        """What else there is to say of the training, in words, for the page of the run."""
        return {}

    def probabilities(self, step: int) -> Mapping[str, Mapping[Option, float]]:
        """How likely each option of each choice is drawn after ``step`` steps, for the record; empty where that never changes."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State beside the module's."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional
        """Restores ``state_dict``'s value."""


class SupernetTask(Task):
    """Trains the paths that ``sampler`` draws; their gradients add up, as in the published codes of OFA, BigNAS and FairNAS.

    Args:
        distillation: the loss of networks that have a teacher: ``teacher`` for all of them, or else the first network of a step
            for the others where the sampler says so.
        teacher: a trained network that takes images of any resolution of the space.
        teacher_resolution: the input size in pixels that it is for, see ``Distillation.full_resolution``.
        reward: of the architectures from which a sampler that learns does so after every epoch.
        image_size: input size in pixels to train at instead of the architectures' own.
        statistics: what batch normalisation goes by, see ``oneshot.batch_norm.normalising``.
    """

    kind = "supernet"

    def __init__(
        self,
        supernet: Supernet,
        sampler: Sampler,
        label_smoothing: float = 0.0,
        distillation: Distillation = _IN_PLACE,
        teacher: nn.Module | None = None,
        reward: HeldOutReward | None = None,
        image_size: int | None = None,
        teacher_resolution: int | None = None,
        statistics: Statistics = "tracked",
    ) -> None:
        if teacher is not None and distillation.full_resolution and teacher_resolution is None:
            raise ValueError("a teacher that sees images at its own resolution needs teacher_resolution")
        self.module = self.supernet = supernet
        self.sampler = sampler
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.distillation = distillation
        self.teacher = teacher
        self.reward = reward
        self.image_size = image_size
        self.statistics: Statistics = statistics
        self._seen_at = teacher_resolution if distillation.full_resolution else None

    def facts(self) -> Mapping[str, str]:
        """What is added up where there is a teacher: more than in a phase without."""
        if self.teacher is None:
            return {}
        weight = self.distillation.label_weight
        more = f" and the labels (weight {weight:g})" if weight else ""
        return {"loss at the end": f"the teacher's answers (weight {self.distillation.ratio:g}){more}"}

    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        inputs = _Inputs(images, engine)
        predictions: dict[int, Tensor] = {}
        in_place: Tensor | None = None
        losses = Losses(step)
        accuracy: Tensor | None = None
        for position, candidates in enumerate(self.sampler.proposals(step)):
            arch = self._choose(candidates, inputs, labels, engine)
            resolution = self._resolution(arch)
            taught_by = in_place
            if self.teacher is not None:
                seen = self._seen_at or resolution
                if seen not in predictions:
                    predictions[seen] = self._predict(self.teacher, inputs.at(seen), engine)
                taught_by = predictions[seen]
            prepared = inputs.at(resolution)
            with engine.precision(), convolving(self.supernet.may_crash(arch), prepared):
                dropout = position == 0 or not self.sampler.teacher_first
                logits = self.supernet(prepared, arch, dropout, self.statistics)
                loss = self.criterion(logits, labels)
                if taught_by is not None:
                    loss = self.distillation.loss(logits, taught_by, loss)
            losses.add(loss, arch)
            engine.backward(loss)
            if accuracy is None:
                accuracy = (logits.detach().argmax(1) == labels).float().mean()
                if self.sampler.teacher_first:
                    in_place = logits.detach()
        assert accuracy is not None
        losses.check()
        return StepResult(losses.mean(), accuracy)

    def _resolution(self, arch: Arch) -> int:
        return self.image_size or self.supernet.space.input_shape(arch)[-1]

    @torch.no_grad()
    def _choose(self, candidates: Sequence[Arch], inputs: _Inputs, labels: Tensor, engine: Engine) -> Arch:
        """The candidate with the lowest or the highest loss (Wang et al., AttentiveNAS, CVPR 2021, section 3.3)."""
        if len(candidates) == 1:
            return candidates[0]
        losses = []
        for arch in candidates:
            with engine.precision():
                logits = self.supernet(inputs.at(self._resolution(arch)), arch, False, self.statistics)
                losses.append(self.criterion(logits, labels) * engine.share.weight)
        of_all = torch.stack(losses)
        add_up([of_all])
        found = of_all.tolist()
        choose = min if self.sampler.prefers_low_loss else max
        return candidates[choose(range(len(found)), key=found.__getitem__)]

    @torch.no_grad()
    def _predict(self, teacher: nn.Module, images: Tensor, engine: Engine) -> Tensor:
        """The teacher's logits, without dropout. At the student's resolution it normalises with the batch, as in Once-for-All's
        published code.
        """
        network = with_batch_statistics(teacher) if self._seen_at is None else teacher.eval()
        with engine.precision():
            logits: Tensor = network(images)
        return logits

    def end_epoch(self, step: int, engine: Engine) -> Mapping[str, float]:
        if self.reward is None:
            return {}
        reward, batches = self.reward, itertools.count()

        def ask(archs: Sequence[Arch]) -> list[float]:
            return reward(self.supernet, archs, engine, step, next(batches))

        return self.sampler.learn(step, ask)

    def probabilities(self, step: int) -> Mapping[str, Mapping[Option, float]]:
        return self.sampler.probabilities(step)

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])


class _Inputs:
    """The images of a step at each resolution that is asked for, prepared once."""

    def __init__(self, images: Tensor, engine: Engine) -> None:
        self._images, self._engine = images, engine
        self._prepared: dict[int, Tensor] = {}

    def at(self, resolution: int) -> Tensor:
        """``(batch, 3, resolution, resolution)``."""
        if resolution not in self._prepared:
            self._prepared[resolution] = self._engine.prepare(self._images, resolution)
        return self._prepared[resolution]


class SubnetTask(Task):
    """Trains one network at one resolution.

    Args:
        mixup: turns prepared images and labels into mixed ones with class shares.
        transform: further augmentation of uint8 images ``(batch, 3, size, size)``, which are these rows of the batch
            of a step.
        teacher: a trained network that it learns from, too, and the input size in pixels at which that sees the images.
        distillation: the loss with a teacher.
        statistics: what batch normalisation goes by, see ``oneshot.batch_norm.normalising``.

    Raises:
        ValueError: there are mixup and a teacher, which could say nothing of mixed images at another size.
    """

    kind = "subnet"

    def __init__(
        self,
        module: nn.Module,
        arch: Arch,
        resolution: int,
        label_smoothing: float = 0.0,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        transform: Callable[[Tensor, Share, int], Tensor] | None = None,
        teacher: tuple[nn.Module, int] | None = None,
        distillation: Distillation = _IN_PLACE,
        statistics: Statistics = "tracked",
    ) -> None:
        if mixup is not None and teacher is not None:
            raise ValueError("a teacher and mixup or cutmix do not go together: set retrain.distill=false")
        self.module = module
        self.teacher, self.distillation = teacher, distillation
        self.arch = arch
        self.resolution = resolution
        self.mixup = mixup
        self.transform = transform
        self.statistics: Statistics = statistics
        self._may_crash = may_crash(module)
        # timm's Mixup smooths the labels that it mixes itself.
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.0 if mixup else label_smoothing)

    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        if self.transform is not None:
            images = self.transform(images, engine.share, step)
        inputs = engine.prepare(images, self.resolution)
        targets = labels
        # timm's Mixup pairs images with one another and so takes an even number of them.
        if self.mixup is not None and len(inputs) >= 2:
            even = len(inputs) // 2 * 2
            labels = labels[:even]
            inputs, targets = self.mixup(inputs[:even], labels)
        with (
            engine.precision(),
            convolving(self._may_crash, inputs),
            normalising(self.module, self.statistics),
        ):
            logits = self.module(inputs)
            loss = self.criterion(logits, targets)
            if self.teacher is not None:
                network, size = self.teacher
                with torch.no_grad():
                    taught = network.eval()(engine.prepare(images, size))
                loss = self.distillation.loss(logits, taught, loss)
        losses = Losses(step)
        losses.add(loss, self.arch)
        engine.backward(loss)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        losses.check()
        return StepResult(losses.mean(), accuracy)


class Losses:
    """Those of a step's networks. A look at a number of a CUDA device waits for all that it was told to do, so they set out for
    the CPU before the backward pass: then they can be looked at while that is still at work.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._losses: list[Tensor] = []
        self._numbers: list[Tensor] = []
        self._archs: list[Arch] = []
        self._arrived: torch.cuda.Event | None = None

    def add(self, loss: Tensor, arch: Arch) -> None:
        """Takes the loss of ``arch``, whose backward pass has not begun."""
        self._losses.append(loss.detach())
        self._archs.append(arch)
        self._numbers.append(loss.detach().to("cpu", non_blocking=True))
        if loss.device.type == "cuda":
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(loss.device))

    def check(self) -> None:
        """Raises NonFiniteLossError, with the step and the architecture, for the first NaN or infinite loss."""
        if self._arrived is not None:
            self._arrived.synchronize()
        for loss, arch in zip(torch.stack(self._numbers).tolist(), self._archs, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss is {loss} at step {self._step} for architecture {arch.to_json()}; {HELPS}"
                )

    def mean(self) -> Tensor:
        """Their mean, on their device."""
        return torch.stack(self._losses).mean()


def check_weights(module: nn.Module, step: int) -> None:
    """Raises NonFiniteLossError if there are weights that are NaN or infinite after ``step`` steps: a gradient can overflow where
    the loss does not.
    """
    if not torch.stack([parameter.isfinite().all() for parameter in module.parameters()]).all():
        raise NonFiniteLossError(f"some weights are no finite numbers after step {step}; {HELPS}")
