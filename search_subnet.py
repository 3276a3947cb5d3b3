"""Search a trained supernet: ``python search_subnet.py search=evolution cost.max_macs=6e6``. docs/searching.md."""

import logging
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from oneshot.config import (
    DataSize,
    code_setting,
    command,
    cost_settings,
    entry,
    make_data,
    make_predictor,
    make_space,
    make_strategy,
    moved_data,
    newest_run,
    settings,
    trained_sampler,
    warn_unread,
)
from oneshot.pipeline.folders import load_supernets
from oneshot.pipeline.predicted import PredictedSearch, PredictionSettings, search_without_supernet
from oneshot.pipeline.ranking import RankingSettings, judge_ranking
from oneshot.pipeline.recorded import of_step
from oneshot.pipeline.results import read_references, write_outcome, write_outcomes
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.retrained import retrain_truth
from oneshot.pipeline.scoring import EvaluationSettings, Scorer
from oneshot.pipeline.search import SupernetSearch
from oneshot.pipeline.truth import num_retrained, read_truth
from oneshot.search import Derivation
from oneshot.training import TrainSettings

log = logging.getLogger("search_subnet")


@entry("search_subnet")
def main(config: DictConfig, folder: Path) -> None:
    limited, costs = cost_settings(config)
    evaluation = settings(EvaluationSettings, config, "evaluation")
    ranking = settings(RankingSettings, config, "ranking")
    number = None if config.truth is None else num_retrained(str(config.truth))
    trainer = settings(TrainSettings, config, "trainer", seed=config.seed)
    retrain = settings(RetrainSettings, config, "retrain")
    prediction = settings(PredictionSettings, config, "prediction")
    strategy = make_strategy(config)
    warn_unread(_unread(config, number is not None))
    references = [] if config.references is None else read_references(Path(config.references), limited)
    if "space" in config:
        if config.supernet is not None:
            raise ValueError("give +space, with a predictor that has learned already, or supernet, not both")
        if moved_data({}, config.data):
            raise ValueError("no data are read where a predictor is searched without a supernet: leave out data")
        space = make_space(config.space, DataSize(config.num_classes, config.image_size))
        predictor = make_predictor(config, space, needs_supernet=False)
        if config.truth is not None:
            raise ValueError("truth judges the ranking by a supernet: give supernet=FOLDER instead of +space")
        search_without_supernet(space, predictor, strategy, costs, limited, folder, config.seed, references)
        log.info("networks in %s; look at %s", folder / "networks.json", folder / "report.html")
        return
    given = config.supernet if isinstance(config.supernet, ListConfig) else [config.supernet]
    trained = load_supernets(
        [newest_run(one, "runs/supernet", "step-*.pt", "supernet", "train_supernet", "+space=ofa") for one in given]
    )
    for member in trained.members or [trained]:
        log.info("supernet %s, step %d of %d", member.folder, member.step, member.total_steps)
    if isinstance(strategy, Derivation):
        strategy = replace(strategy, draw=trained_sampler(trained).sample)
    data_config = moved_data(trained.config.get("data"), config.data)
    truth = None
    if config.truth is not None and number is None:
        truth = read_truth(Path(config.truth), trained.supernet.space)
    recorded = of_step(trained.record, f"the supernet {trained.folder}", folder, config.new_images)
    data = make_data(data_config, recorded)
    scorer = Scorer(trained, data, costs[0], evaluation, folder, config.seed, {"data": data_config})
    predict = None
    if config.get("predictor") is None:
        outcomes = [SupernetSearch(scorer, strategy, cost).search() for cost in costs]
    else:
        predictor = make_predictor(config, scorer.space)
        search = PredictedSearch(scorer, predictor, strategy, costs, prediction)
        outcomes, predict = search.search(), search.predict
    if number is not None:
        truth = retrain_truth(scorer, list(scorer.store.scores), number, trainer, retrain, ranking.num_seeds)
    judged = None if truth is None else judge_ranking(scorer, truth, ranking, predict)
    code = code_setting(scorer.space)
    if len(outcomes) == 1:
        write_outcome(scorer, outcomes[0], folder, judged)
        log.info("best subnet in %s; look at %s", folder, folder / "report.html")
        log.info("next: %s", command("retrain_subnet", subnet=folder, **code))
    else:
        best = write_outcomes(scorer, outcomes, limited, references, judged)
        log.info("best subnets in %s; look at %s", ", ".join(map(str, best)), folder / "report.html")
        log.info("next: %s", command("retrain_subnet", subnet=best[-1], **code))


def _unread(config: DictConfig, retrains: bool) -> dict[str, str]:
    """The settings that this search does not read, and with what others one would."""
    by_supernet = "space" not in config
    read = {
        "with +space": {"num_classes": not by_supernet, "image_size": not by_supernet},
        "with a supernet": {"evaluation": by_supernet, "new_images": by_supernet},
        "with predictor=NAME": {"prediction": by_supernet and config.get("predictor") is not None},
        "with truth=...": {"ranking": config.truth is not None},
        "with truth=retrain:N": {"trainer": retrains, "retrain": retrains},
    }
    return {name: reader for reader, names in read.items() for name, is_read in names.items() if not is_read}


if __name__ == "__main__":
    main()
