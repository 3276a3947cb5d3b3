"""Export a subnet to a file that runs without this package: ``python export_subnet.py format=onnx``. docs/exporting.md."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from oneshot.config import entry, newest_run
from oneshot.export import ExportSettings
from oneshot.pipeline.export import export_subnet
from oneshot.pipeline.folders import load_subnet

log = logging.getLogger("export_subnet")


@entry("export_subnet", alone=True)
def main(config: DictConfig, folder: Path) -> None:
    for name, kinds in (("opset", (int, type(None))), ("half", (bool,))):
        if not isinstance(config[name], kinds) or (name == "opset" and isinstance(config[name], bool)):
            raise ValueError(
                f"{name} is {'a number or null' if name == 'opset' else 'true or false'}, not {config[name]!r}"
            )
    settings = ExportSettings(config.format, config.opset, config.half)
    source = newest_run(config.subnet, "runs/retrain", "retrained.pt", "subnet", "retrain_subnet")
    subnet = load_subnet(source)
    log.info("the subnet in %s", source)
    exported = export_subnet(subnet, folder, settings)
    log.info(
        "%s (%.2f MB): logits of batches of %s agree to %.1e in a process without oneshot",
        exported.path, exported.path.stat().st_size / 1e6, " and ".join(map(str, exported.batch_sizes)),
        exported.max_abs_difference,
    )  # fmt: skip
    log.info("its card: %s", exported.card)


if __name__ == "__main__":
    main()
