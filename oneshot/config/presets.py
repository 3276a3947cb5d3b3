"""What a command line leaves open and the weights decide: how a network that begins trained is trained on, and what ranks."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from oneshot.arch import suggest
from oneshot.config.keys import no_setting, typed_keys
from oneshot.config.making import make_strategy, settings
from oneshot.config.paths import CONF
from oneshot.costs import CostSettings
from oneshot.data import ImageData
from oneshot.pipeline.folders import Trained
from oneshot.pipeline.search_settings import COMBINED, INHERITED, SearchSettings
from oneshot.search import Exhaustive
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import PhaseSettings, TrainSettings, batches_of, fine_tuning_rate

log = logging.getLogger(__name__)

PRESET = "pretrained"  # conf/trainer/pretrained.yaml
_SPACES = ("timm", "network")
_OPTIMIZER = "adamw"
_MIN_STEPS = "min_steps"


def with_trainer(arguments: Sequence[str], config_name: str) -> list[str]:
    """The arguments of a command, with the trainer for weights that are trained already where one trains a space that starts
    from such weights (``+space=timm space.weights=...``) and names no trainer. Settings such as ``trainer.lr=...`` change that
    trainer's as they would the default one's.
    """
    given = [re.match(r"[+~]*([\w./@]+)(?:=(.*))?$", argument, re.DOTALL) for argument in arguments]
    values = {match[1]: match[2] or "" for match in given if match is not None}
    starts_trained = values.get("space.weights", "").strip("'\" ") not in ("", "null")
    names_trainer = any(name in ("trainer", "experiment") for name in values)
    if config_name != "train_supernet" or values.get("space") not in _SPACES or not starts_trained or names_trainer:
        return list(arguments)
    return [*arguments, f"trainer={PRESET}"]


def rate_left_open(config: DictConfig, trainer: TrainSettings, space: SearchSpace) -> TrainSettings:
    """The settings of a training with the learning rate that ``trainer.lr=null`` stands for, which is set in ``config``, too.

    Raises:
        ValueError: it is no rate for the optimizer.
    """
    if config.trainer.lr is not None:
        return trainer
    if trainer.optimizer.lower() != _OPTIMIZER:
        raise ValueError(
            f"trainer.lr=null stands for a rate of {_OPTIMIZER}: give a number for trainer.optimizer={trainer.optimizer}"
        )
    config.trainer.lr = fine_tuning_rate(space.network(space.largest))
    if trainer.epochs:
        log.info(
            "trainer.lr=%g, by the size of the network's weights and what normalises (docs/your-network.md)",
            config.trainer.lr,
        )
    return replace(trainer, lr=config.trainer.lr)


def search_for_repaired(
    config: DictConfig, typed: Sequence[str], is_repaired: bool, search: SearchSettings, *, is_single: bool = True
) -> SearchSettings:
    """A search whose candidates are repaired, changed as ``repaired`` says unless the command line chooses how to search: under
    limits on costs that add up over blocks another strategy, under one on latency that is measured a shorter evolution, else a
    predictor, which is set in ``config``, and how it learns.

    Args:
        typed: the settings of the command line, ``key=value`` each. Those of ``prediction`` ask for the predictor.
        search: what it is otherwise.
        is_single: whether there is one supernet; with several only the predictor is for them.

    Raises:
        ValueError: there is no such strategy or predictor.
    """
    keys = typed_keys(typed)
    groups = {key.partition(".")[0] for key in keys}
    repaired = config.repaired
    if not is_repaired or groups & {"search", "predictor"}:
        return search
    is_for_strategy = is_single and search.score == INHERITED and "prediction" not in groups and _add_up(search.costs)
    if repaired.search is not None and is_for_strategy:
        OmegaConf.update(config, "search", _chosen("search", repaired.search), merge=False)
        log.info(
            "for repaired weights: search=%s (search=evolution or predictor=ridge, for two, instead)", repaired.search
        )
        return replace(search, strategy=make_strategy(config))
    if any(_is_measured(cost) for cost in search.costs) and "prediction" not in groups:
        if repaired.measured is None:
            return search
        OmegaConf.update(config, "search", {**_chosen("search", "evolution"), **repaired.measured}, merge=False)
        log.info(
            "for repaired weights under a latency that is measured: search=evolution, %s (cost.latency_table answers faster)",
            ", ".join(f"search.{name}={value}" for name, value in repaired.measured.items()),
        )
        return replace(search, strategy=make_strategy(config))
    if repaired.predictor is None:
        return search
    OmegaConf.update(config, "predictor", _chosen("predictor", repaired.predictor), force_add=True)
    own = {name: repaired[name] for name in ("num_pairs", "num_verified") if f"prediction.{name}" not in keys}
    changed = replace(search.prediction, **own)
    log.info(
        "for repaired weights: predictor=%s, prediction.num_pairs=%d, prediction.num_verified=%d (search=evolution, for one, "
        "scores every candidate)", repaired.predictor, changed.num_pairs, changed.num_verified,
    )  # fmt: skip
    return replace(search, prediction=changed)


def _add_up(costs: Sequence[CostSettings]) -> bool:
    """Whether there are limits and all are on sums over blocks, which a latency that is measured as a whole is not."""
    return all(cost.limits and not _is_measured(cost) for cost in costs)


def _is_measured(cost: CostSettings) -> bool:
    """Whether networks are timed."""
    return cost.needs_latency and cost.latency_table is None


def _chosen(group: str, name: Any) -> Any:
    """The config of this name in a group."""
    known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    if name not in known:
        raise ValueError(
            f"repaired.{group} is one of {', '.join(known)}, or null, not {name!r}{suggest(str(name), known)}"
        )
    return OmegaConf.load(CONF / group / f"{name}.yaml")


def score_left_open(trained: Trained, search: SearchSettings) -> str:
    """What ranks where the command line does not say. All witnesses together, where they have been measured to rank better than
    inherited weights alone, and are not most of the search's work: in spaces whose options have weights of their own, trained
    from random ones, and for searches that score as many networks as witnesses are compared on. Inherited weights otherwise.

    Args:
        search: with the strategy and the predictor that were made.
    """
    space, budget, number = trained.supernet.space, search.strategy.budget, search.combination.num_reference
    shared = trained.members[0].supernet if trained.members else trained.supernet
    because = {
        "a predictor learns what the supernet says": search.predictor is not None,
        "the networks begin with trained weights": space.starts_trained,
        "networks of this space are parts of one another": space.original is not None
        or (isinstance(shared, Supernet) and shared.is_elastic),
        "scoring all networks shares work that other witnesses cannot share": isinstance(search.strategy, Exhaustive),
        f"a search of {budget:,} {'networks' if budget > 1 else 'network'} is shorter than the {number:,} that witnesses are "
        "compared on": budget < number,
        "successive halving compares losses": search.evaluation.halving_images is not None,
    }
    reason = next((text for text, holds in because.items() if holds), None)
    if reason is None:
        log.info(
            "score=combined, all witnesses, because each option of this space has weights of its own (score=inherited ranks by "
            "the supernet alone, in less time)"
        )
        return COMBINED
    log.info(
        "score=inherited, the supernet's weights alone, because %s (score=combined asks other witnesses, too)", reason
    )
    return INHERITED


def for_repaired(
    config: DictConfig, typed: Sequence[str], is_repaired: bool, network: Callable[[], nn.Module], data: ImageData
) -> Mapping[str, Any]:
    """The trainer's settings under ``repaired``, if the network that is trained on is such, but those that were typed. Epochs are
    as many more as ``repaired.min_steps`` take; a learning rate that is null is half of the one at which such a network is
    fine-tuned.

    Args:
        typed: the settings of the command line, ``key=value`` each.
        network: makes that network, where its weights are looked at.

    Raises:
        ValueError: the trainer has no such setting.
    """
    keys, known = typed_keys(typed), [*config.trainer, _MIN_STEPS]
    for name in config.repaired:
        if name not in known:
            raise ValueError(no_setting(f"repaired.{name}", [f"repaired.{one}" for one in known]))
    if not is_repaired or "trainer" in keys:
        return {}
    own = {str(name): value for name, value in config.repaired.items() if f"trainer.{name}" not in keys}
    min_steps = own.pop(_MIN_STEPS, None)
    if "lr" in own and own["lr"] is None:
        own["lr"] = fine_tuning_rate(network()) / 2
    if "epochs" in own:
        made = settings(TrainSettings, config, "trainer", **own)
        own["epochs"] = PhaseSettings(made.epochs, min_steps).lengthened(batches_of(data, made)[1]).epochs
    return own
