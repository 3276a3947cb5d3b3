"""Train a supernet: a space, data and settings in; a run folder with checkpoints and curves out."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneshot.arch import Arch, Option
from oneshot.checking import check_least
from oneshot.costs import CostTable
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import Evaluator, Score, ScoreSettings
from oneshot.evaluation.batches import Batches
from oneshot.garbage import settled
from oneshot.pipeline.block_order import order_blocks
from oneshot.pipeline.folders import TEACHER, Subnet, Trained, load_subnet, load_supernet, load_weights, save_subnet
from oneshot.pipeline.narrowing import check_strongest, go_on, narrowed
from oneshot.pipeline.relaxed import DERIVED, part_of_architecture, relaxed_scores, write_derived
from oneshot.pipeline.untrained import check_untrained, run_facts, start_family
from oneshot.processes import shared_out, wait
from oneshot.progress import progress
from oneshot.runs import writing
from oneshot.samplers import DifferentiableSampler, Sampler, UniformSampler
from oneshot.sorting import input_energies, sort_channels
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import (
    ArchitectureImages,
    ArchitectureTask,
    Distillation,
    HeldOutReward,
    PhaseSettings,
    RunPart,
    SupernetTask,
    Trainer,
    TrainSettings,
    batches_of,
    check_run,
    freeze_norms,
    load_newest,
)
from oneshot.training.randomness import make_generator, seeded

log = logging.getLogger(__name__)
_SORTING_IMAGES = 256


@dataclass(frozen=True)
class SupernetTraining:
    """How a supernet is trained.

    Args:
        make_sampler: makes the sampler of a space, with ``num_paths`` where a phase names one.
        calibration_images: training images on which statistics of subnets are measured.
        phases: parts of the training by name, in order, as ``plan_phases`` returns them; otherwise there is one of
            ``trainer.epochs`` on the whole space. Each starts with what the one before learned.
        distillation: the loss of networks that have a teacher.
        init: weights to start from: a run folder or checkpoint of the same space, or a published checkpoint.
        new_classifier: leave the classifier out of ``init``, whose classes may be others.
        options: train only the part of the space with these options, by pattern of choice names; the weights are those of the
            whole space.
        norm_affine: whether the scales and shifts of batch normalisation are learned.
        config: plain values that describe the run; a folder that was started with other values is refused.
    """

    trainer: TrainSettings
    make_sampler: Callable[..., Sampler] = UniformSampler
    calibration_images: int = 512
    phases: Mapping[str, PhaseSettings] = field(default_factory=dict)
    distillation: Distillation = field(default_factory=Distillation)
    init: Path | None = None
    new_classifier: bool = False
    options: Mapping[str, Sequence[Option]] = field(default_factory=dict)
    norm_affine: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_least(2, calibration_images=self.calibration_images)


@settled()
def train_supernet(
    space: SearchSpace,
    data: ImageData,
    training: SupernetTraining,
    folder: Path,
    newest: Mapping[str, Any] | None = None,
) -> Trained:
    """Trains a supernet of ``space`` in ``folder``, or continues the run that the folder holds.

    Of ``trainer.epochs=0`` comes the family of a network that is trained already, see ``start_family``. Otherwise, every
    ``trainer.eval_every`` epochs the largest, the smallest and one random subnet are scored on the held-out images with
    recalibrated statistics.

    Args:
        newest: the folder's newest checkpoint, where it has been read already.

    Returns:
        The supernet with the weights to rank by.

    Raises:
        ValueError: the space does not fit the data, or the folder holds another run.
        FolderInUseError: another process writes to the folder.
    """
    settings, init = training.trainer, training.init
    if space.num_classes != data.num_classes:
        raise ValueError(f"the space has {space.num_classes} classes, the data {data.num_classes}")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.epochs == 0:
        if init is not None:
            raise ValueError("trainer.epochs=0 takes the weights of the space (space.weights), not init")
        check_untrained(space, data)
        with writing(folder):
            newest = newest or load_newest(folder / "checkpoints")
            if newest is not None:
                check_run(newest, folder, SupernetTask.kind, training.config, 0)
                return load_supernet(folder)
            space = order_blocks(space, data, settings, None, None)
            return start_family(
                space, data, settings, training.options, training.config, folder,
                lambda supernet: _sort_by_importance(supernet, _original(space), data, settings.seed),
            )  # fmt: skip
    phases = training.phases or {"": PhaseSettings(epochs=settings.epochs)}
    given = space
    name, phase = next(iter(phases.items()))
    first = _sampler(name, phase, phase.restrict(given.restrict(training.options)), training)
    check_strongest(phases, first)
    data, architecture_images = part_of_architecture(data, first.architecture_images, settings)
    steps_per_epoch = batches_of(data, settings)[1]
    total_steps = steps_per_epoch * sum(phase.epochs for phase in phases.values())
    with writing(folder):
        newest = newest or load_newest(folder / "checkpoints")
        if newest is not None:
            check_run(newest, folder, SupernetTask.kind, training.config, total_steps)
        space = order_blocks(space, data, settings, newest, init)
        reached = 0 if newest is None else newest["step"]
        with seeded("weights", settings.seed):
            supernet = Supernet(space)
        trained = None if init is None else space
        if newest is None and init is not None:
            load_weights(supernet, init, training.new_classifier)
        elif space.starts_trained:
            trained = _original(space)
            if newest is None and not any(phase.sort_channels for phase in phases.values()):
                _sort_by_importance(supernet, trained, data, settings.seed)
        if not training.norm_affine:
            freeze_norms(supernet)
        run = _Run(space, data, training, folder, total_steps, architecture_images)
        first_distilled = next((name for name, phase in phases.items() if phase.distill), None)
        first_step, is_as_stored, before = 0, False, ("", phase)
        for name, phase in phases.items():
            if newest is not None and reached == first_step and phase.goes_on:
                run.sampler = _sampler(*before, space.restrict(newest["options"]), training)
                run.sampler.load_state_dict(newest["task"]["sampler"])
            part = run.part(phase, first_step, newest)
            last_step = first_step + steps_per_epoch * phase.epochs
            if reached < last_step or last_step == total_steps:
                if newest is not None and reached == first_step:
                    supernet.load_state_dict(newest["average"] or newest["model"])
                if phase.distill:
                    is_new = reached == first_step and name == first_distilled
                    run.provide_teacher(supernet, trained, is_new, is_as_stored)
                if reached == first_step and phase.sort_channels and trained is not None:
                    if space.starts_trained:
                        _sort_by_importance(supernet, trained, data, settings.seed)
                    else:  # by the norms of the weights alone, as published
                        count = sort_channels(supernet, trained)
                        log.info("phase %s: channels of %d layers sorted by importance", name, count)
                is_made = first_step == 0 and space is given
                sampler = first if is_made else _sampler(name, phase, part, training)
                supernet.space = part  # whose canonical forms may differ from those of the whole space
                if phase.goes_on and reached == first_step:
                    go_on(supernet, run.sampler, sampler, make_generator("widening", settings.seed, first_step))
                supernet = run.train(supernet, phase, part, sampler, first_step, name, newest)
                reached, newest = last_step, None
            before = name, phase
            first_step, trained, is_as_stored = last_step, part, phase.stored_statistics
        if phase.untrained:
            supernet.space = run.wanted
    return Trained(
        supernet,
        dict(training.config),
        data.classes,
        folder.resolve(),
        total_steps,
        total_steps,
        run.sampler_state,
        record=data.record,
        untrained=phase.untrained,
        stored_statistics=phase.stored_statistics,
    )


def _original(space: SearchSpace) -> SearchSpace:
    """The largest network alone."""
    return space.restrict({choice.name: choice.options[-1:] for choice in space.choices})


def _sampler(name: str, phase: PhaseSettings, part: SearchSpace, training: SupernetTraining) -> Sampler:
    """The sampler of a phase, on its part of the space."""
    if name and part.size == 1:  # which no sampler needs to see more than once a step
        return UniformSampler(part, training.trainer.seed)
    own = {"num_paths": phase.num_paths, "partial_channels": phase.partial_channels}
    changes = {name: value for name, value in own.items() if value is not None}
    return training.make_sampler(part, **changes)


def _sort_by_importance(supernet: Supernet, trained: SearchSpace, data: ImageData, seed: int) -> None:
    """Sorts the channels of a supernet whose largest network is trained by what they do on a few hundred training images."""
    if not supernet.space.channel_orders:
        return
    order = torch.randperm(len(data.train), generator=make_generator("sorting", seed))[:_SORTING_IMAGES]
    images = Batches(data.train.subset(order.sort().values), data, 32, torch.device("cpu"))
    arch = trained.largest
    device = next(supernet.parameters()).device
    batches = (batch for batch, _ in images.at(trained.input_shape(arch)[-1]))
    count = sort_channels(supernet.cpu(), trained, input_energies(supernet, arch, batches))
    supernet.to(device)
    log.info("channels of %d layers sorted by importance on %d training images", count, len(order))


class _Run:
    """What all phases of one run share."""

    def __init__(
        self,
        space: SearchSpace,
        data: ImageData,
        training: SupernetTraining,
        folder: Path,
        total_steps: int,
        architecture_images: ArchitectureImages | None,
    ) -> None:
        self.space, self.data, self.training, self.folder = space, data, training, folder
        self.wanted = space.restrict(training.options)
        self.architecture_images = architecture_images
        self.settings, self.total_steps = training.trainer, total_steps
        self.config = dict(training.config)
        self.device = resolve_device(self.settings.device)
        self.teacher: nn.Module | None = None
        self.teacher_resolution: int | None = None
        self.sampler_state: Mapping[str, Any] = {}
        self.sampler: Sampler | None = None  # of the phase before

    def part(self, phase: PhaseSettings, first_step: int, newest: Mapping[str, Any] | None) -> SearchSpace:
        """The part of the space that a phase trains, which may depend on what the one before learned."""
        part = phase.restrict(self.wanted)
        if phase.strongest is None:
            return part
        if newest is not None and newest["step"] > first_step:  # in the middle of it, or after it
            return self.space.restrict(newest["options"])
        assert isinstance(self.sampler, DifferentiableSampler)
        return narrowed(part, self.sampler, phase.strongest)

    def train(
        self,
        supernet: Supernet,
        phase: PhaseSettings,
        part: SearchSpace,
        sampler: Sampler,
        first_step: int,
        name: str,
        newest: Mapping[str, Any] | None,
    ) -> Supernet:
        """Trains one phase, or continues it; returns the supernet with the weights to rank by."""
        task = self._task(supernet, sampler, phase, first_step)
        meta = {
            **run_facts(self.space, self.wanted if phase.untrained else part, self.data, self.config),
            "untrained": phase.untrained,
            "stored_statistics": phase.stored_statistics,
        }
        trainer = Trainer(
            task,
            self.data,
            phase.apply(self.settings),
            RunPart(self.folder, meta, first_step, self.total_steps, name),
            lambda module: self._evaluate(module, part, sampler, phase.stored_statistics),
        )
        if name:
            log.info("phase %s: %d epochs, %.3g networks", name, phase.epochs, part.size)
        trained = trainer.run(newest)
        assert isinstance(trained, Supernet)
        self.sampler, self.sampler_state = sampler, task.sampler.state_dict()
        if isinstance(sampler, DifferentiableSampler):
            write_derived(self.folder / DERIVED, sampler)
        return trained

    def _task(self, supernet: Supernet, sampler: Sampler, phase: PhaseSettings, first_step: int) -> SupernetTask:
        if isinstance(sampler, DifferentiableSampler):
            unused = {
                "phases.NAME.distill": phase.distill,
                "phases.NAME.stored_statistics": phase.stored_statistics,
                "trainer.amp_dtype=float16": self.settings.amp_dtype == "float16",
            }
            for what, is_set in unused.items():
                if is_set:
                    raise ValueError(
                        f"{what} has no use where all options are mixed: leave it out, or take another sampler"
                    )
            sampler.to(self.device)
            return ArchitectureTask(
                supernet.to(self.device),
                sampler,
                self.architecture_images,
                batches_of(self.data, self.settings)[1],
                phase.epochs,
                first_step,
                self.settings.label_smoothing,
                phase.image_size,
            )
        return SupernetTask(
            supernet,
            sampler,
            self.settings.label_smoothing,
            self.training.distillation,
            self.teacher if phase.distill else None,
            HeldOutReward(self.data, self.settings.batch_size, self.settings.seed),
            phase.image_size,
            self.teacher_resolution,
            "stored" if phase.stored_statistics else "tracked",
        )

    def provide_teacher(self, supernet: Supernet, trained: SearchSpace | None, make: bool, is_as_stored: bool) -> None:
        """Makes the largest network as it is now the teacher of all phases from here on, or finds the one that was made.

        Args:
            is_as_stored: whether its weights were trained with the statistics that are stored, which it then keeps.

        Raises:
            ValueError: nothing has been trained that it could teach.
            FileNotFoundError: the run is continued, and its teacher is gone.
        """
        if self.teacher is not None:
            return
        path = self.folder / TEACHER
        if make:
            if trained is None:
                raise ValueError(
                    "the first phase has distill=true, but its teacher, the largest network, is not trained: put a phase without "
                    "distill before it, or start from trained weights with init=..."
                )
            arch = trained.largest
            cost = CostTable(self.space).cost(arch)
            card = {
                "macs": cost.macs,
                "params": cost.params,
                **self.data.card(),
                "input_shape": list(self.space.input_shape(arch)),
            }
            network = self._evaluator(supernet, is_as_stored).subnet(arch)
            save_subnet(path, Subnet(self.space, arch, network.state_dict(), self.config, card, self.data.record))
        wait()  # until the first process has written it
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone: the network that teaches the phases of this run")
        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        teacher = load_subnet(path)
        if teacher.record is not None and self.data.record is not None:
            self.data.record.check_clean(teacher.record, f"the teacher {path}")
        self.teacher_resolution = teacher.space.input_shape(teacher.arch)[-1]
        self.teacher = teacher.module().to(self.device, memory_format=layout).requires_grad_(False)  # type: ignore[call-overload]

    def _evaluate(
        self, module: nn.Module, part: SearchSpace, sampler: Sampler, stored_statistics: bool
    ) -> dict[str, float]:
        assert isinstance(module, Supernet)
        evaluator = self._evaluator(module, stored_statistics)
        if isinstance(sampler, DifferentiableSampler):
            return relaxed_scores(module, evaluator, sampler)
        shown = {
            "largest": part.largest,
            "smallest": part.smallest,
            "random": part.sample(random.Random(f"shown {self.settings.seed}")),
        }

        def score(archs: Sequence[Arch]) -> list[Score]:
            return [evaluator(arch) for arch in progress(log, "evaluation", "network", iterable=archs, leave=False)]

        scored = list(zip(shown, shared_out(list(shown.values()), score), strict=True))
        return {f"held_out_{part}/{name}": getattr(of, part) for part in ("accuracy", "loss") for name, of in scored}

    def _evaluator(self, supernet: Supernet, stored_statistics: bool) -> Evaluator:
        evaluation = ScoreSettings(self.training.calibration_images, channels_last=self.settings.channels_last)
        return Evaluator(
            supernet.to(self.device), self.data, evaluation, device=self.device, stored_statistics=stored_statistics
        )
