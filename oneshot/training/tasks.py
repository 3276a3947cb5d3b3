"""What is trained: a supernet along sampled paths, or one subnet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oneshot.arch import Arch
from oneshot.samplers import Sampler
from oneshot.supernet import Supernet


class Engine(Protocol):
    """What the trainer lends to a task for a step."""

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """Stored uint8 images as the network's input ``(batch, 3, resolution, resolution)``."""

    def precision(self) -> AbstractContextManager[object]:
        """The context of the forward pass: mixed precision where it is on."""

    def backward(self, loss: Tensor) -> None:
        """The loss's backward pass, scaled where mixed precision needs it."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message holds the step and the architecture."""


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
    """

    kind: str
    module: nn.Module

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        """Adds the gradients of one batch of augmented uint8 images ``(batch, 3, size, size)``.

        Raises:
            NonFiniteLossError: before the gradients of the loss are added.
        """

    def state_dict(self) -> dict[str, Any]:
        """State beside the module's."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional
        """Restores ``state_dict``'s value."""


class SupernetTask(Task):
    """Trains the paths that ``sampler`` draws; their gradients add up, as in the published codes of OFA, BigNAS and FairNAS."""

    kind = "supernet"

    def __init__(self, supernet: Supernet, sampler: Sampler, label_smoothing: float = 0.0) -> None:
        self.module = self.supernet = supernet
        self.sampler = sampler
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        archs = self.sampler.sample(step)
        inputs: dict[int, Tensor] = {}
        losses: list[Tensor] = []
        accuracy = teacher = None
        for arch in archs:
            resolution = self.supernet.space.input_shape(arch)[-1]
            if resolution not in inputs:
                inputs[resolution] = engine.prepare(images, resolution)
            with engine.precision():
                logits = self.supernet(inputs[resolution], arch)
                # In-place distillation: the largest network's prediction, not smoothed further (BigNAS, section 3.1).
                loss = self.criterion(logits, labels) if teacher is None else cross_entropy(logits, teacher)
            check_finite(loss, step, arch)
            engine.backward(loss)
            losses.append(loss.detach())
            if accuracy is None:
                accuracy = (logits.detach().argmax(1) == labels).float().mean()
                if self.sampler.teacher_first:
                    teacher = logits.detach().float().softmax(1)
        assert accuracy is not None
        return StepResult(torch.stack(losses).mean(), accuracy)

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])


class SubnetTask(Task):
    """Trains one network at one resolution.

    Args:
        mixup: turns prepared images and labels into mixed ones with class shares.
        transform: further augmentation of uint8 images ``(batch, 3, size, size)``.
    """

    kind = "subnet"

    def __init__(
        self,
        module: nn.Module,
        arch: Arch,
        resolution: int,
        label_smoothing: float = 0.0,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.module = module
        self.arch = arch
        self.resolution = resolution
        self.mixup = mixup
        self.transform = transform
        # timm's Mixup smooths the labels that it mixes itself.
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.0 if mixup else label_smoothing)

    def step(self, images: Tensor, labels: Tensor, step: int, engine: Engine) -> StepResult:
        if self.transform is not None:
            images = self.transform(images)
        inputs = engine.prepare(images, self.resolution)
        targets = labels
        # timm's Mixup pairs images with one another and so takes an even number of them.
        if self.mixup is not None and len(inputs) >= 2:
            even = len(inputs) // 2 * 2
            labels = labels[:even]
            inputs, targets = self.mixup(inputs[:even], labels)
        with engine.precision():
            logits = self.module(inputs)
            loss = self.criterion(logits, targets)
        check_finite(loss, step, self.arch)
        engine.backward(loss)
        return StepResult(loss.detach(), (logits.detach().argmax(1) == labels).float().mean())


def check_finite(loss: Tensor, step: int, arch: Arch) -> None:
    """Raises NonFiniteLossError, with the step and the architecture, for a NaN or infinite loss."""
    if not torch.isfinite(loss):
        raise NonFiniteLossError(
            f"the loss is {loss.item()} at step {step} for architecture {arch.to_json()}; a lower trainer.lr, a longer "
            "trainer.warmup_epochs or a smaller trainer.clip_grad usually helps"
        )
