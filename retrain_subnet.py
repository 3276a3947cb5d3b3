"""Retrain the best subnet: ``python retrain_subnet.py subnet=<search folder>``. docs/retraining.md."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from oneshot.config import (
    code_setting,
    command,
    entry,
    for_repaired,
    log_notes,
    make_data,
    moved_data,
    newest_run,
    plain,
    settings,
    unread_by_trainer,
    warn_unread,
)
from oneshot.pipeline.chosen_subnet import choose
from oneshot.pipeline.folders import load_subnet
from oneshot.pipeline.recorded import of_step
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.pipeline.steps import newest_checkpoint
from oneshot.spaces.loading import from_definition
from oneshot.training import TrainSettings

log = logging.getLogger("retrain_subnet")


@entry("retrain_subnet")
def main(config: DictConfig, folder: Path) -> None:
    retrain = settings(RetrainSettings, config, "retrain")
    source = newest_run(config.subnet, "runs/search", "subnet.pt", "subnet", "search_subnet")
    subnet = load_subnet(source, ("subnet.pt", "retrained.pt"))
    log.info("the subnet in %s", source)
    data_config = moved_data(subnet.config.get("data"), config.data)
    newest = newest_checkpoint(folder, "retrain_subnet")
    data = make_data(data_config, of_step(subnet.record, f"the subnet in {source}", folder, newest, config.new_images))
    is_repaired = "repair_images" in subnet.card and retrain.weights == "inherited"
    own = for_repaired(config, HydraConfig.get().overrides.task, is_repaired, subnet.module, data)
    if own:
        log.info("for repaired weights: %s", ", ".join(f"trainer.{name}={value}" for name, value in own.items()))
    trainer = settings(TrainSettings, config, "trainer", seed=config.seed, **own)
    warn_unread(unread_by_trainer(trainer))
    arch_file = None if config.arch is None else Path(config.arch)
    subnet, trained = choose(subnet, arch_file, data, retrain.evaluation(trainer), trainer.seed)
    recorded = {**plain(config), "data": data_config, "subnet": str(source)}
    recorded["trainer"] |= own
    del recorded["run"], recorded["code"]
    space = from_definition({**subnet.space.definition, **plain(config.space)}) if config.space else None
    log_notes(subnet.space if space is None else space)
    training = SubnetTraining(trainer, retrain, supernet=trained, space=space, config=recorded)
    result = retrain_subnet(subnet, data, training, folder, newest)
    log.info(
        "test accuracy on %d images: retrained %.4f, inherited %s, largest subnet inherited %s",
        result.test_images, result.test_accuracy,
        "none" if result.inherited_test_accuracy is None else f"{result.inherited_test_accuracy:.4f}",
        "unknown (no supernet)" if result.largest_test_accuracy is None else f"{result.largest_test_accuracy:.4f}",
    )  # fmt: skip
    log.info("retrained subnet in %s", folder)
    log.info("next: %s", command("export_subnet", subnet=folder, **code_setting(subnet.space)))


if __name__ == "__main__":
    main()
