"""Train a supernet: ``python train_supernet.py +space=ofa``. All settings: ``--cfg job``; docs/training.md."""

import logging
from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig

from oneshot.config import entry, make_data, make_space, plain, settings
from oneshot.pipeline.train import train_supernet
from oneshot.training import TrainSettings

log = logging.getLogger("train_supernet")


@entry("train_supernet")
def main(config: DictConfig, folder: Path) -> None:
    trainer = settings(TrainSettings, config, "trainer", seed=config.seed)
    data = make_data(plain(config.data))
    space = make_space(config.get("space"), data)
    log.info(
        "%s: %.3g networks; %s: %d training, %d held-out and %d test images of %d classes",
        type(space).__name__, space.size, data.name, len(data.train), len(data.held_out), len(data.test), data.num_classes,
    )  # fmt: skip
    make_sampler = partial(hydra.utils.instantiate, config.sampler, seed=config.seed)
    recorded = plain(config)
    del recorded["run"]
    train_supernet(space, data, lambda of: make_sampler(space=of), trainer, folder, recorded, config.calibration_images)
    log.info("supernet in %s; curves in %s", folder, folder / "training.html")
    log.info("next: python search_subnet.py supernet=%s", folder)


if __name__ == "__main__":
    main()
