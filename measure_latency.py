"""Measure a table of latencies per layer on this machine: ``python measure_latency.py +space=ofa``. docs/latency.md."""

import logging
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from oneshot.config import DataSize, entry, make_space, newest_run, plain, settings, warn_unread
from oneshot.costs import MeasureSettings, check_table, measure_table
from oneshot.pipeline.folders import load_supernet
from oneshot.spaces.base import SearchSpace

log = logging.getLogger("measure_latency")


@entry("measure_latency", alone=True)
def main(config: DictConfig, folder: Path) -> None:
    latency = settings(MeasureSettings, config, "latency")
    numbers = plain(config)
    if isinstance(config.supernet, ListConfig):
        raise ValueError(f"supernet is one folder or checkpoint, not {numbers['supernet']!r}")
    if "space" not in config:
        warn_unread({name: "with +space" for name in ("num_classes", "image_size")})
    for name in ("num_classes", "image_size", "check_networks"):
        if not isinstance(numbers[name], int) or numbers[name] < (name != "check_networks"):
            raise ValueError(f"{name} is a number from {int(name != 'check_networks')}, not {numbers[name]!r}")
    sizes = numbers["resolutions"]
    if sizes is not None and not (isinstance(sizes, list) and sizes and all(isinstance(size, int) for size in sizes)):
        raise ValueError(f"resolutions is a list of input sizes in pixels, not {sizes!r}")
    space = _space(config, DataSize(config.num_classes, config.image_size))
    log.info("layers of %s; other programs on this machine disturb the measurement", space.title)
    table = measure_table(space, sizes, latency, folder)
    log.info("table in %s", folder)
    if config.check_networks:
        check = check_table(table, config.check_networks, latency, config.seed)
        check.save(folder)
        (log.info if check.is_in_order else log.warning)("%s", check)
        if not check.is_in_order:
            log.warning(
                "the table does not put these networks in order: measure again when the machine does nothing else"
            )


def _space(config: DictConfig, images: DataSize) -> SearchSpace:
    if "space" in config:
        if config.supernet is not None:
            raise ValueError("give +space or supernet, not both")
        if config.resolutions is not None and config.space.get("resolutions", ()) is None:
            config.space.resolutions = config.resolutions
        return make_space(config.space, images)
    return load_supernet(
        newest_run(config.supernet, "runs/supernet", "step-*.pt", "supernet", "train_supernet", "+space=ofa")
    ).supernet.space


if __name__ == "__main__":
    main()
