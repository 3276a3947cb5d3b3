"""Search a trained supernet: ``python search_subnet.py search=evolution cost.max_macs=6e6``. docs/searching.md."""

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

from oneshot.config import entry, make_data, moved_data, newest_run, settings
from oneshot.costs import CostSettings
from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.search import EvaluationSettings, SupernetSearch

log = logging.getLogger("search_subnet")


@entry("search_subnet")
def main(config: DictConfig, folder: Path) -> None:
    cost = settings(CostSettings, config, "cost")
    evaluation = settings(EvaluationSettings, config, "evaluation")
    strategy = hydra.utils.instantiate(config.search)
    source = newest_run(config.supernet, "runs/supernet", "step-*.pt", "supernet", "train_supernet.py +space=ofa")
    trained = load_supernet(source)
    log.info("supernet %s, step %d of %d", trained.folder, trained.step, trained.total_steps)
    data_config = moved_data(trained.config["data"], config.data)
    search = SupernetSearch(
        trained, make_data(data_config), strategy, cost, evaluation, folder, config.seed, {"data": data_config}
    )
    search.run()
    log.info("best subnet in %s; look at %s", folder, folder / "report.html")
    log.info("next: python retrain_subnet.py subnet=%s", folder)


if __name__ == "__main__":
    main()
