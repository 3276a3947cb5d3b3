"""The training loop: batches, optimizer, schedule, checkpoints and the record, the same for supernets and subnets."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oneshot.batch_norm import several_values
from oneshot.data import MAY_MOVE, ImageData, augment, prepare
from oneshot.devices import deterministic, resolve_device
from oneshot.processes import count, handling, is_first, rank, share_of
from oneshot.progress import progress
from oneshot.runs import require_same, writing
from oneshot.training.averaging import WeightAverage
from oneshot.training.batches import batches_of, training_batches
from oneshot.training.checkpoint import load_newest, save_checkpoint
from oneshot.training.metrics import Metrics
from oneshot.training.optimization import clip_gradients, make_optimizer
from oneshot.training.randomness import make_generator, seeded
from oneshot.training.settings import TrainSettings, check_optimizer
from oneshot.training.synchronised import check_synchronised, synchronising
from oneshot.training.tasks import Task, check_weights
from oneshot.training.together import StepSum, begin_together
from oneshot.training.window import Window

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C or SIGTERM); its newest checkpoint has been written. Like every Ctrl-C it is no
    ``Exception``, so that nothing between the run and the program takes it for a failure.
    """


@dataclass(frozen=True)
class RunPart:
    """A run, or one part of a run in several phases.

    Args:
        folder: where everything is kept.
        meta: plain values that the checkpoints hold beside the state: ``config``, by which the run is known, space, data.
        first_step: the step at which the part begins. The module starts with the weights that it has, whatever the earlier
            parts left in the folder.
        total_steps: of the whole run; None where this is all of it.
        title: what the record calls this part.
    """

    folder: Path
    meta: Mapping[str, Any]
    first_step: int = 0
    total_steps: int | None = None
    title: str = ""


class Trainer:
    """Trains ``task`` on ``data.train``, on the device of ``settings``, and keeps everything in the folder of ``part``:
    ``checkpoints/``, ``metrics.jsonl``, TensorBoard's events and ``training.html``.

    A folder that holds a checkpoint is continued. Everything random is a function of the seed and the step, so a run that is
    killed and continued ends with the weights of an undisturbed one, bit for bit, on the same machine.

    Several processes (``oneshot.processes``) share out each batch. They add up their gradients once a step, of the tensors that
    have some, and so take the step that one process takes; running statistics become the means of theirs. The first one writes.

    Args:
        evaluate: called with the weights to rank by (the moving average where there is one) at every evaluation; returns what
            to record, such as ``{"held_out_accuracy/largest": 0.9}``.

    Raises:
        ValueError: a setting or the folder's checkpoint does not fit.
    """

    def __init__(
        self,
        task: Task,
        data: ImageData,
        settings: TrainSettings,
        part: RunPart,
        evaluate: Callable[[torch.nn.Module], Mapping[str, float]],
    ) -> None:
        from timm.scheduler import CosineLRScheduler

        check_optimizer(settings.optimizer)
        self.task, self.data, self.settings, self.part, self.evaluate = task, data, settings, part, evaluate
        self.folder, self.device = part.folder, resolve_device(settings.device)
        self.batch_size, self.steps_per_epoch = batches_of(data, settings)
        check_synchronised(settings.sync_batch_norm, self.device)
        self.share = share_of(self.batch_size)
        num_steps = self.steps_per_epoch * settings.epochs
        self.last_step = part.first_step + num_steps
        self.total_steps = self.last_step if part.total_steps is None else part.total_steps
        # Goyal et al., 2017: the learning rate grows with the batch.
        lr = settings.lr * (self.batch_size / settings.lr_batch_size if settings.lr_batch_size else 1.0)
        task.module.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]
        if self.batch_size < settings.batch_size:
            log.info(
                "trainer.batch_size=%d: each batch is all %d training images", settings.batch_size, self.batch_size
            )
        if settings.warmup_epochs > settings.epochs / 2:
            log.info(
                "trainer.warmup_epochs=%g is cut to half of the epochs: %g", settings.warmup_epochs, settings.epochs / 2
            )
        warmup_steps = round(min(settings.warmup_epochs, settings.epochs / 2) * self.steps_per_epoch)
        self.optimizer = make_optimizer(task.module, settings, lr, self.device)
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=max(2, num_steps - warmup_steps),  # a cosine of one step is its peak, of which timm would warn
            lr_min=settings.min_lr,
            warmup_t=warmup_steps,
            warmup_lr_init=lr / 100,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self.average = WeightAverage(task.module, settings)
        self.dtype = _mixed_precision(self.device, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.step = part.first_step
        self._stop = False
        self._add_up = StepSum(task, self.share)
        self._window = Window(self.batch_size, self.device)

    # The loop --------------------------------------------------------------------------------------------------------

    def run(self, newest: Mapping[str, Any] | None = None) -> torch.nn.Module:
        """Trains to the last step of this part, from the newest checkpoint where there is one; returns the module to rank and
        extract from.

        Args:
            newest: the folder's newest checkpoint, where it has been read already.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once a checkpoint is written.
            NonFiniteLossError: the loss is NaN or infinite.
            OSError: the folder cannot be written, or another process writes there.
        """
        with writing(self.folder), deterministic(self.settings.deterministic):
            return self._run(load_newest(self.folder / "checkpoints") if newest is None else newest)

    def _run(self, saved: Mapping[str, Any] | None) -> torch.nn.Module:
        if saved is not None:
            check_run(saved, self.folder, self.task.kind, self.part.meta["config"], self.total_steps)
        if saved is not None and saved["step"] > self.part.first_step:
            self._restore(saved)
            log.info("continuing at step %d of %d", self.step, self.total_steps)
        if self.step >= self.last_step and (self.folder / "training.html").is_file():
            return self.best_module
        begin_together((self.task.module, self.best_module), self.step, self.share, self.folder)
        metrics = Metrics(self.folder, self.step, self.part.title)
        started, first_step = time.monotonic(), self.step
        try:
            with _signals(self._request_stop), self._progress() as bar:
                self._train(metrics, bar)
            seconds = time.monotonic() - started
            speed = (self.step - first_step) * self.batch_size / max(seconds, 1e-9)
            facts = {
                "steps": str(self.last_step),
                "last part": f"{seconds:.0f} s, {speed:.0f} images/s",
                "device": str(self.device) if count() == 1 else f"{count()} processes, {self.device.type}",
                **self.task.facts(),
            }
            metrics.close(self.folder / "training.html", f"Training of the {self.task.kind}", facts, self.task.graphs())
        finally:
            metrics.stop()
        return self.best_module

    @property
    def best_module(self) -> torch.nn.Module:
        """The average of the weights where one is kept and has begun, the weights themselves otherwise."""
        return self.average.module

    def _train(self, metrics: Metrics, bar: tqdm[Any]) -> None:
        settings, window, saved_at = self.settings, self._window, time.monotonic()
        window.start()
        parameters = list(self.task.module.parameters())
        many = (
            f"trainer.batch_size={settings.batch_size} makes batches of {self.batch_size} of the {len(self.data.train)} training "
            "images, and this network needs more"
        )
        steps = range(self.step, self.last_step)
        for images, labels in training_batches(self.data, settings, self.share, steps, self.device):
            self.schedule.step_update(self.step - self.part.first_step)
            lr = self.optimizer.param_groups[0]["lr"]
            # Dropout draws anew in each process; what has to be the same in all depends on generators of its own.
            own = ("step", settings.seed, self.step, *([rank()] if rank() else []))
            with seeded(*own, device=self.device):
                generator = make_generator("augmentation", settings.seed, self.step)
                images = augment(images, self.data.augmentation, generator, self.share)
                if not self.task.module.training:  # after an evaluation; a supernet's bank has hundreds of modules
                    self.task.module.train()
                with several_values(many), synchronising(settings.sync_batch_norm):
                    result = self.task.step(images, labels, self.step, self)
                result, stop = self._add_up(result, self._stop)
                self._update(parameters)
            self.step += 1
            window.add(result)
            last = self.step == self.last_step
            logged = self.step % settings.log_every == 0 or last
            epoch_end = self.step % self.steps_per_epoch == 0
            epoch = (self.step - self.part.first_step) // self.steps_per_epoch
            if logged or epoch_end:
                mean_loss, mean_accuracy, speed = window.means()
                bar.set_postfix_str(
                    f"epoch {math.ceil((self.step - self.part.first_step) / self.steps_per_epoch)} of {settings.epochs}, "
                    f"loss {mean_loss:.3f}, accuracy {mean_accuracy:.3f}, {speed:.0f} images/s",
                    refresh=False,
                )
            if not bar.update() and epoch_end:
                bar.refresh()
            if logged:
                values = {"loss/train": mean_loss, "accuracy/train": mean_accuracy, "lr/lr": lr, "speed/train": speed}
                metrics.write(self.step, values)
                window.restart()
            if epoch_end:
                self.average.after_epoch(epoch)
                with window.paused():
                    learned, probabilities = self.task.end_epoch(self.step, self), self.task.probabilities(self.step)
                    metrics.write(self.step, learned)
                    metrics.write_policy(self.step, probabilities)
            if last or (epoch_end and settings.eval_every and epoch % settings.eval_every == 0):
                with window.paused():
                    values = dict(self.evaluate(self.best_module))
                metrics.write(self.step, values)
                log.info(
                    "%sepoch %d of %d%s%s",
                    f"{self.part.title} " if self.part.title else "",
                    epoch,
                    settings.epochs,
                    ": " if values else "",
                    ", ".join(f"{k} {v:.4f}" for k, v in values.items()),
                )
            if count() == 1:
                stop = self._stop  # also where it came meanwhile
            if last or stop or time.monotonic() - saved_at >= settings.checkpoint_seconds:
                self._save()
                saved_at = time.monotonic()
            if stop and self.step < self.total_steps:
                raise Interrupted(f"stopped at step {self.step} of {self.total_steps}")

    def _update(self, parameters: list[torch.nn.Parameter]) -> None:
        if self.settings.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(parameters, self.settings)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # None rather than zero: momentum and weight decay must not move tensors that the sampled paths do not use.
        self.optimizer.zero_grad(set_to_none=True)
        self.average.after_step(self.step)

    # What a task borrows ---------------------------------------------------------------------------------------------

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """Stored uint8 images as network input ``(batch, 3, resolution, resolution)``."""
        return prepare(images, resolution, self.data.mean, self.data.std, memory_format=self._layout)

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.settings.channels_last else torch.contiguous_format

    def precision(self) -> AbstractContextManager[object]:
        """Mixed precision where it is on."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def loss_scale(self) -> float:
        """By what float16 scales the loss; 1 without it."""
        return float(self.scaler.get_scale())

    def backward(self, loss: Tensor) -> None:
        """The loss's backward pass, by the weight of this process's share, scaled in float16."""
        self.scaler.scale(loss if self.share.weight == 1 else loss * self.share.weight).backward()

    # State -----------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if not is_first():
            return
        check_weights(self.task.module, self.step)
        state = {
            **self.part.meta,
            "kind": self.task.kind,
            "total_steps": self.total_steps,
            "model": self.task.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "task": self.task.state_dict(),
            "window": self._window.state_dict(),
        }
        save_checkpoint(self.folder / "checkpoints", self.step, state, self.settings.keep_checkpoints)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.task.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.task.load_state_dict(state["task"])
        if "window" in state:  # not in checkpoints of earlier versions
            self._window.load_state_dict(state["window"])
        self.step = state["step"]
        self.average.load_state_dict(state["average"], (self.step - self.part.first_step) // self.steps_per_epoch)

    def _request_stop(self) -> None:
        self._stop = True

    def _progress(self) -> tqdm[Any]:
        name = f"train {self.part.title or self.task.kind}"
        return progress(log, name, "step", total=self.total_steps, initial=self.step)


def check_run(state: Mapping[str, Any], folder: Path, kind: str, config: Mapping[str, Any], total_steps: int) -> None:
    """Raises ValueError unless the checkpoint ``state`` in ``folder`` is one of this very run."""
    if state["kind"] != kind:
        raise ValueError(f"{folder} holds a {state['kind']} run, not one of a {kind}; use another folder")
    free = _MAY_CHANGE if state.get("images") is None else _MAY_CHANGE | {f"data.{name}" for name in MAY_MOVE}
    require_same(folder, "was started with other settings", state["config"], config, free)
    if state["total_steps"] != total_steps:
        raise ValueError(f"{folder} was started on other data: {state['total_steps']} steps, not {total_steps}")


# Settings that may change when a run is continued, beside where the images are if it recorded which they are: they do not change
# what is learned.
_MAY_CHANGE = {
    "trainer.log_every",
    "trainer.checkpoint_seconds",
    "trainer.keep_checkpoints",
    "trainer.threads",
    "trainer.device",
    "trainer.deterministic",
}


def _mixed_precision(device: torch.device, settings: TrainSettings) -> torch.dtype | None:
    if not settings.amp:
        return None
    if settings.amp_dtype is not None:
        return torch.float16 if settings.amp_dtype == "float16" else torch.bfloat16
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _signals(request_stop: Callable[[], None]) -> AbstractContextManager[None]:
    """Ctrl-C and SIGTERM ask for a stop at the end of the step; a second Ctrl-C stops at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        request_stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return handling(handle, signal.SIGINT, signal.SIGTERM)
