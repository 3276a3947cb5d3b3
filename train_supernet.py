"""Train a supernet: ``python train_supernet.py +space=ofa``. All settings: ``--cfg job``; docs/training.md."""

import logging
from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig

from oneshot.config import data_settings, entry, make_data, make_space, phase_settings, plain, settings
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
    data_config = data_settings(config)
    data = make_data(data_config)
    space = make_space(config.get("space"), data)
    log.info(
        "%s: %.3g networks; %s: %d training, %d held-out and %d test images of %d classes",
        type(space).__name__, space.size, data.name, len(data.train), len(data.held_out), len(data.test), data.num_classes,
    )  # fmt: skip
    make_sampler = partial(hydra.utils.instantiate, config.sampler, seed=config.seed)
    recorded = plain(config) | {"data": data_config}
    del recorded["run"]
    train_supernet(
        space,
        data,
        make_sampler,
        trainer,
        folder,
        recorded,
        config.calibration_images,
        plan_phases(phases, space.restrict(plain(config.options)), epochs),
        distillation,
        None if config.init is None else Path(config.init),
        config.new_classifier,
        plain(config.options),
        config.norm_affine,
    )
    log.info("supernet in %s; curves in %s", folder, folder / "training.html")
    log.info("next: python search_subnet.py supernet=%s", folder)


if __name__ == "__main__":
    main()
