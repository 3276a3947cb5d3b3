"""Train a supernet: ``python train_supernet.py +space=ofa``. All settings: ``--cfg job``; docs/training.md."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from oneshot.config import (
    code_setting,
    command,
    data_settings,
    entry,
    make_data,
    make_sampler,
    make_space,
    phase_settings,
    plain,
    settings,
)
from oneshot.pipeline.recorded import of_training
from oneshot.pipeline.train import train_supernet
from oneshot.training import Distillation, TrainSettings, plan_phases

log = logging.getLogger("train_supernet")


@entry("train_supernet")
def main(config: DictConfig, folder: Path) -> None:
    phases = phase_settings(config)
    epochs = config.trainer.epochs
    listed = sum(phase.epochs for phase in phases.values())
    trainer = settings(
        TrainSettings, config, "trainer", seed=config.seed, **({"epochs": listed} if phases and epochs is None else {})
    )
    distillation = settings(Distillation, config, "distillation")
    init = None if config.init is None else Path(config.init)
    data_config = data_settings(config)
    data = make_data(data_config, of_training(folder, data_config, init, config.new_classifier))
    space = make_space(config.get("space"), data)
    log.info(
        "%s: %.3g networks; %s: %d training, %d held-out and %d test images of %d classes",
        type(space).__name__, space.size, data.name, len(data.train), len(data.held_out), len(data.test), data.num_classes,
    )  # fmt: skip
    recorded = plain(config) | {"data": data_config}
    del recorded["run"], recorded["code"]
    train_supernet(
        space,
        data,
        lambda part, **changes: make_sampler(recorded["sampler"], part, config.seed, **changes),
        trainer,
        folder,
        recorded,
        config.calibration_images,
        plan_phases(phases, space.restrict(plain(config.options)), epochs),
        distillation,
        init,
        config.new_classifier,
        plain(config.options),
        config.norm_affine,
    )
    log.info("supernet in %s; curves in %s", folder, folder / "training.html")
    log.info("next: %s", command("search_subnet", supernet=folder, **code_setting(space)))


if __name__ == "__main__":
    main()
