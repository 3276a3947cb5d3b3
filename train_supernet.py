"""Train a supernet: ``python train_supernet.py +space=ofa``. All settings: ``--cfg job``; docs/training.md."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from oneshot.config import (
    PRESET,
    check_apart,
    code_setting,
    command,
    data_settings,
    entry,
    has_typed,
    has_typed_lengths,
    make_data,
    make_sampler,
    make_space,
    patterns_of,
    phase_settings,
    plain,
    rate_left_open,
    settings,
    unread_by_sampler,
    unread_by_trainer,
    warn_unread,
)
from oneshot.data import ImageData
from oneshot.pipeline.recorded import of_training
from oneshot.pipeline.relaxed import DERIVED, Strongest
from oneshot.pipeline.steps import newest_checkpoint
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.training import Distillation, PhaseSettings, TrainSettings, batches_of, plan_phases

log = logging.getLogger("train_supernet")
_ANY_RATE = 1.0  # until the network is known, by which a learning rate is chosen


@entry("train_supernet")
def main(config: DictConfig, folder: Path) -> None:
    phases = phase_settings(config)
    if has_typed_lengths(HydraConfig.get().overrides.task):
        config.trainer.epochs = sum(phase.epochs for phase in phases.values())
    epochs = config.trainer.epochs
    listed = sum(phase.epochs for phase in phases.values())
    told = {"epochs": listed} if phases and epochs is None else {}
    untold = {"lr": _ANY_RATE} if config.trainer.lr is None else {}
    trainer = settings(TrainSettings, config, "trainer", seed=config.seed, **told, **untold)
    distillation = settings(Distillation, config, "distillation")
    init = None if config.init is None else Path(config.init)
    data_config = data_settings(config)
    newest = newest_checkpoint(folder, "train_supernet")
    data = make_data(data_config, of_training(folder, newest, data_config, init, config.new_classifier))
    space = make_space(config.get("space"), data)
    trainer = rate_left_open(config, trainer, space)
    given, strongest = patterns_of(config.options), settings(Strongest, config, "strongest").of(space)
    check_apart(given, strongest)
    options = given | strongest
    wanted = space.restrict(options)
    log.info(
        "%s: %.3g networks; %s: %d training, %d held-out and %d test images of %d classes",
        space.title, wanted.size, data.name, len(data.train), len(data.held_out), len(data.test), data.num_classes,
    )  # fmt: skip
    planned = plan_phases(phases, wanted, epochs)
    if any(phase.epochs != phases[name].epochs for name, phase in planned.items()):
        log.info("trainer.epochs=%d, shared out among the phases (%s)", epochs, _lengths(planned))
    if planned and epochs is None:
        planned = _lengthened(config, planned, data, trainer)
        trainer = replace(trainer, epochs=sum(phase.epochs for phase in planned.values()))
    warn_unread(unread_by_sampler(config.sampler, space) | unread_by_trainer(trainer) | _unread(config, trainer))
    if HydraConfig.get().runtime.choices.get("trainer") == PRESET and planned:
        log.info(
            "trainer=%s, for weights that are trained already: phases, with their epochs, %s; trainer=default trains the whole "
            "space at once",
            PRESET, _lengths(planned),
        )  # fmt: skip
    recorded = plain(config) | {"data": data_config, "options": options}
    del recorded["run"], recorded["code"]
    training = SupernetTraining(
        trainer=trainer,
        make_sampler=lambda part, **changes: make_sampler(recorded["sampler"], part, config.seed, **changes),
        calibration_images=config.calibration_images,
        phases=planned,
        distillation=distillation,
        init=init,
        new_classifier=config.new_classifier,
        options=options,
        norm_affine=config.norm_affine,
        config=recorded,
    )
    typed = has_typed(HydraConfig.get().overrides.task, "distillation")
    taught, sampler = any(phase.distill for phase in planned.values()), training.make_sampler(wanted)
    if typed and not taught and not sampler.teacher_first:
        warn_unread(
            {"distillation": "where networks have a teacher, as with phases.NAME.distill=true or sampler=sandwich"}
        )
    train_supernet(space, data, training, folder, newest)
    if trainer.epochs:
        log.info("supernet in %s; curves in %s", folder, folder / "training.html")
    else:
        log.info("supernet in %s, without training", folder)
    learns = bool(trainer.epochs and sampler.probabilities(0))  # a policy, from which architectures are drawn then
    derived = {"search": "derivation"} if learns or (folder / DERIVED).is_file() else {}
    log.info("next: %s", command("search_subnet", supernet=folder, **derived, **code_setting(space)))


def _unread(config: DictConfig, trainer: TrainSettings) -> dict[str, str]:
    """The settings that this training does not read, and where one would."""
    unread = {} if config.init is not None else {"new_classifier": "with init=FOLDER"}
    if trainer.epochs == 0:
        names = {f"trainer.{name}" for name in vars(trainer)} - {"trainer.epochs", "trainer.threads", "trainer.device"}
        unread |= dict.fromkeys([*names, "phases", "distillation"], "where something is trained")
    return unread


def _lengthened(
    config: DictConfig, phases: Mapping[str, PhaseSettings], data: ImageData, trainer: TrainSettings
) -> dict[str, PhaseSettings]:
    """Phases with the epochs that their least steps take, which are set in ``config``, too."""
    steps = batches_of(data, trainer)[1]
    found = {name: phase.lengthened(steps) for name, phase in phases.items()}
    for name, phase in found.items():
        if phase.epochs > phases[name].epochs:
            config.phases[name].epochs = phase.epochs
            log.info(
                "phases.%s.epochs=%d in place of %d, for phases.%s.min_steps=%d: an epoch of %d images has %d",
                name, phase.epochs, phases[name].epochs, name, phase.min_steps, len(data.train), steps,
            )  # fmt: skip
    return found


def _lengths(phases: Mapping[str, PhaseSettings]) -> str:
    return ", ".join(f"{name} {phase.epochs}" for name, phase in phases.items())


if __name__ == "__main__":
    main()
