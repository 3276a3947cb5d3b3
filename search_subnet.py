"""Search a trained supernet: ``python search_subnet.py search=evolution cost.max_macs=6e6``; or untrained networks, without a
supernet: ``python search_subnet.py +space=ofa data=digits score=naswot``. docs/searching.md.
"""

import functools
import logging
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig

from oneshot.config import (
    DataSize,
    code_setting,
    command,
    cost_settings,
    entry,
    later_data,
    log_notes,
    make_data,
    make_predictor,
    make_space,
    make_strategy,
    moved_data,
    newest_run,
    score_left_open,
    search_for_repaired,
    settings,
    trained_sampler,
    training_of,
    warn_unread,
)
from oneshot.costs import CostSettings, CostTable, RelativeCostSettings
from oneshot.pipeline.discretising import Discretisation
from oneshot.pipeline.folders import load_supernets
from oneshot.pipeline.recorded import of_step
from oneshot.pipeline.references import read_references
from oneshot.pipeline.relaxed import canonical_notes, partial_note
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.search_settings import (
    INHERITED,
    CombinationSettings,
    EvaluationSettings,
    PredictionSettings,
    RankingSettings,
    RetrainedTruth,
    SearchSettings,
)
from oneshot.pipeline.search_supernet import search_supernet
from oneshot.pipeline.truth import num_retrained, read_truth
from oneshot.pipeline.unscored_search import search_without_supernet
from oneshot.pipeline.untrained_search import PUT_TOGETHER, UntrainedSettings, check_names, search_untrained
from oneshot.processes import count
from oneshot.samplers import DifferentiableSampler
from oneshot.search import Derivation, Knapsack, Perturbation
from oneshot.spaces import SearchSpace
from oneshot.training import TrainSettings

log = logging.getLogger("search_subnet")


@entry("search_subnet")
def main(config: DictConfig, folder: Path) -> None:
    limited, costs = cost_settings(config)
    number = None if config.truth is None else num_retrained(str(config.truth))
    trainer = settings(TrainSettings, config, "trainer", seed=config.seed)
    retrain = settings(RetrainSettings, config, "retrain")
    untrained = "space" in config and config.score not in (None, INHERITED)
    warn_unread(_unread(config, number is not None, untrained))
    search = SearchSettings(
        evaluation=settings(EvaluationSettings, config, "evaluation"),
        ranking=settings(RankingSettings, config, "ranking"),
        prediction=settings(PredictionSettings, config, "prediction"),
        combination=settings(CombinationSettings, config, "combination"),
        score=INHERITED if untrained or config.score is None else config.score,
        strategy=make_strategy(config),
        costs=costs,
        limited=limited,
        references=[] if config.references is None else read_references(Path(config.references), limited),
        seed=config.seed,
    )
    if "space" in config and isinstance(search.strategy, Knapsack):
        raise ValueError(
            "search=knapsack measures the blocks of a trained network: give supernet=FOLDER instead of +space"
        )
    if count() > 1 and isinstance(search.strategy, Perturbation):
        raise ValueError(f"search=perturbation is the work of one process, not of {count()}")
    if "space" in config:
        if count() > 1:
            raise ValueError(f"a search without a supernet is the work of one process, not of {count()}")
        if config.supernet is not None:
            raise ValueError(
                "give +space, with a score of untrained networks or a predictor that has learned already, or supernet, not both"
            )
        if untrained:
            truth = RetrainedTruth(number, trainer, retrain, search.ranking.num_seeds) if number is not None else None
            _search_untrained(config, replace(search, truth=truth), folder)
            return
        if moved_data({}, config.data):
            raise ValueError("no data are read where a predictor is searched without a supernet: leave out data")
        space = make_space(config.space, DataSize(config.num_classes, config.image_size))
        learned = make_predictor(config, space, needs_supernet=False)
        if config.truth is not None:
            raise ValueError("truth judges the ranking by a supernet: give supernet=FOLDER instead of +space")
        search = replace(search, predictor=learned, costs=_in_numbers(costs, space))
        search_without_supernet(space, search, folder)
        log.info("networks in %s; look at %s", folder / "networks.json", folder / "report.html")
        return
    given = config.supernet if isinstance(config.supernet, ListConfig) else [config.supernet]
    trained = load_supernets(
        [newest_run(one, "runs/supernet", "step-*.pt", "supernet", "train_supernet", "+space=ofa") for one in given]
    )
    space, weights = trained.supernet.space, {}
    for member in trained.members or [trained]:
        log.info("supernet %s, step %d of %d", member.folder, member.step, member.total_steps)
    log_notes(space)
    search = replace(search, costs=_in_numbers(costs, space))
    if trained.partial_channels > 1:
        log.warning("%s", partial_note(trained.partial_channels))
        weights = {"retrain.weights": "scratch"}
    if isinstance(search.strategy, Perturbation):
        sampler = trained_sampler(trained)
        if not isinstance(sampler, DifferentiableSampler):
            raise ValueError(
                f"search=perturbation needs a supernet that was trained by gradient, such as with sampler=darts, not with "
                f"{type(sampler).__name__}"
            )
        if config.get("predictor") is not None:
            raise ValueError("search=perturbation proposes one network, which needs no predictor: leave out predictor")
        weights = {"retrain.weights": "scratch"}  # as published
    if isinstance(search.strategy, Derivation):
        sampler = trained_sampler(trained)
        search = replace(search, strategy=replace(search.strategy, draw=sampler.derive))
        if isinstance(sampler, DifferentiableSampler):
            search = replace(search, strategy=replace(search.strategy, num_samples=1))
            for note in canonical_notes(sampler):
                log.warning("%s", note)
            warn_unread({"search.num_samples": "with samplers that draw more than one network"})
            weights = {"retrain.weights": "scratch"}  # as published
    data_config = moved_data(trained.config.get("data"), config.data)
    if number is not None:
        search = replace(search, truth=RetrainedTruth(number, trainer, retrain, search.ranking.num_seeds))
    elif config.truth is not None:
        search = replace(search, truth=read_truth(Path(config.truth), space))
    recorded = of_step(trained.record, f"the supernet {trained.folder}", folder, None, config.new_images)
    data = make_data(data_config, recorded)
    if isinstance(search.strategy, Perturbation):
        assert isinstance(sampler, DifferentiableSampler)
        made = functools.partial(
            Discretisation, trained, sampler, data, training_of(trained), search.strategy, folder, config.seed
        )
        search = replace(search, strategy=replace(search.strategy, choose=functools.cache(lambda: made().run())))
    is_repaired = trained.repair(search.evaluation.repair_images, search.evaluation.repair) is not None
    if not is_repaired:
        warn_unread({"evaluation.repair_images": "where weights are repaired"})
    typed = HydraConfig.get().overrides.task
    search = search_for_repaired(config, typed, is_repaired, search, is_single=not trained.members)
    if config.get("predictor") is None:
        warn_unread({"prediction": "with predictor=NAME"})
    predictor = None if config.get("predictor") is None else make_predictor(config, space)
    search = replace(search, predictor=predictor, config={"data": data_config})
    if config.score is None:
        search = replace(search, score=score_left_open(trained, search))
        if search.score == INHERITED:
            warn_unread({"combination": "with score=combined"})
    found = search_supernet(trained, data, search, folder)
    named = "best subnet" if len(found.folders) == 1 else "best subnets"
    log.info("%s in %s; look at %s", named, ", ".join(map(str, found.folders)), folder / "report.html")
    chosen = {"subnet": found.folders[-1], **code_setting(space)}
    if space.original is not None and (is_repaired or space.starts_trained):
        log.info("the subnets can be used as they are: %s", command("export_subnet", **chosen))
    log.info("next: %s", command("retrain_subnet", **chosen, **weights))


def _search_untrained(config: DictConfig, search: SearchSettings, folder: Path) -> None:
    """A search by scores of networks that nobody has trained."""
    names = list(config.score) if isinstance(config.score, ListConfig) else [config.score]
    untrained = settings(UntrainedSettings, config, "untrained")
    if config.get("predictor") is not None:
        raise ValueError("a score of untrained networks needs no predictor: leave out predictor")
    if isinstance(search.strategy, (Derivation, Perturbation)):
        raise ValueError(
            "search=derivation and search=perturbation take what the training of a supernet has learned: choose another search"
        )
    check_names(names)
    data_config = later_data(config)
    data = make_data(data_config)
    space = make_space(config.space, data)
    if search.truth is None and config.truth is not None:
        search = replace(search, truth=read_truth(Path(config.truth), space))
    search = replace(search, costs=_in_numbers(list(search.costs), space), config={"data": data_config})
    folders = search_untrained(space, data, names, untrained, search, folder)
    named = "best network" if len(folders) == 1 else "best networks"
    log.info("%s in %s; look at %s", named, ", ".join(map(str, folders)), folder / "report.html")
    hint = command("retrain_subnet", subnet=folders[-1], **{"retrain.weights": "scratch"}, **code_setting(space))
    log.info("next: %s", hint)


def _in_numbers(costs: list[CostSettings], space: SearchSpace) -> list[CostSettings]:
    """Percentages in limits turned into numbers."""
    if not any(isinstance(cost, RelativeCostSettings) for cost in costs):
        return costs
    original = CostTable(space).original()
    log.info("100 %% is the original: %.4gM MACs, %.4gM parameters", original.macs / 1e6, original.params / 1e6)
    whole = {"macs": original.macs, "params": original.params}
    return [cost.of_original(whole) if isinstance(cost, RelativeCostSettings) else cost for cost in costs]


def _unread(config: DictConfig, retrains: bool, untrained: bool) -> dict[str, str]:
    """The settings that this search does not read, and with what others one would."""
    by_supernet = "space" not in config
    read = {
        "with +space and predictor": {
            name: not by_supernet and not untrained for name in ("num_classes", "image_size")
        },
        "with +space and a score of untrained networks": {"untrained": untrained},
        "where there is a predictor or a supernet": {"references": not untrained},
        "with a supernet": {"evaluation": by_supernet, "new_images": by_supernet},
        "with predictor=NAME": {"prediction": by_supernet},  # which the supernet may set
        "with score=combined": {"combination": config.score in PUT_TOGETHER or (config.score is None and by_supernet)},
        "without cost.latency_table, which was measured once": {
            f"cost.latency_{name}": config.cost.latency_table is None
            for name in ("batch", "threads", "device", "warmup", "repeats")
        },
        "with truth=...": {"ranking": config.truth is not None},
        "with truth=retrain:N": {"trainer": retrains, "retrain": retrains},
    }
    return {name: reader for reader, names in read.items() for name, is_read in names.items() if not is_read}


if __name__ == "__main__":
    main()
