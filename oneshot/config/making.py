"""From configs to objects."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oneshot.costs import CostSettings
from oneshot.data import ImageData, Recorded
from oneshot.pipeline.folders import Trained
from oneshot.predictors import Predictor, PublishedPredictor
from oneshot.samplers import Sampler
from oneshot.spaces.base import SearchSpace
from oneshot.training import PhaseSettings

T = TypeVar("T")


def settings(kind: type[T], config: DictConfig, group: str, **extra: Any) -> T:
    """The dataclass ``kind`` with the values of ``config[group]`` and ``extra``; types and names are checked."""
    try:
        given = {name: value for name, value in config[group].items() if name not in extra}
        merged = OmegaConf.merge(OmegaConf.structured(kind), given, extra)
        made = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"{group}.{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(made, kind)
    return made


def phase_settings(config: DictConfig) -> dict[str, PhaseSettings]:
    """The phases of the training of a supernet by name, in order."""
    try:
        return {str(name): settings(PhaseSettings, config.phases, str(name)) for name in config.phases}
    except ValueError as error:
        raise ValueError(f"phases.{error}") from None


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, everything resolved."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def make_data(config: Mapping[str, Any], recorded: Recorded | None = None) -> ImageData:
    """The image data of a ``data`` config. Only functions of ``oneshot.data`` are ever called, because the config may come from a
    checkpoint.

    Args:
        recorded: the split of an earlier step to take over.
    """
    for target in _targets(config):
        if not target.startswith("oneshot.data."):
            raise ValueError(f"data sources are functions of oneshot.data, not {target!r}")
    source = hydra.utils.instantiate({**config, "_partial_": True})
    made = source() if recorded is None else source(recorded=recorded)
    assert isinstance(made, ImageData)
    return made


def _targets(config: Any) -> list[str]:
    if isinstance(config, Mapping):
        own = [str(config["_target_"])] if "_target_" in config else []
        return own + [target for value in config.values() for target in _targets(value)]
    if isinstance(config, (list, tuple)):
        return [target for value in config for target in _targets(value)]
    return []


def trained_sampler(trained: Trained) -> Sampler:
    """The sampler of a supernet's training, with what it has learned.

    Raises:
        ValueError: there are several supernets, or the sampler is not one of oneshot's; only those are ever made, because the
            config comes from a checkpoint.
    """
    if trained.members:
        raise ValueError(
            "a derivation draws from the sampler of one supernet, not of several: give one as supernet=FOLDER"
        )
    for name in _targets(trained.config["sampler"]):
        if not name.startswith(("oneshot.samplers.", "oneshot.policies.")):
            raise ValueError(f"samplers that can be drawn from later are those of oneshot.samplers, not {name!r}")
    space = trained.supernet.space
    sampler: Sampler = hydra.utils.instantiate(trained.config["sampler"], space, seed=trained.config["seed"])
    sampler.load_state_dict(dict(trained.sampler_state))
    return sampler


def cost_settings(config: DictConfig) -> tuple[str, list[CostSettings]]:
    """The cost limits of a search, several where one of them is a list, in rising order; and the cost that they limit.

    Raises:
        ValueError: more than one list, an empty one, or limits that are no positive numbers.
    """
    names = {"max_macs": "macs", "max_params": "params", "max_latency_ms": "latency_ms"}
    lists = [name for name in names if isinstance(config.cost.get(name), ListConfig)]
    given = [name for name in names if config.cost.get(name) is not None]
    if len(lists) > 1:
        raise ValueError(f"one of the limits can be a list, not both cost.{lists[0]} and cost.{lists[1]}")
    if not lists:
        return names[given[0]] if given else "macs", [settings(CostSettings, config, "cost")]
    values = list(config.cost[lists[0]])
    if not values:
        raise ValueError(f"cost.{lists[0]} is an empty list")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"cost.{lists[0]} is a list of numbers, not {values!r}")
    return names[lists[0]], [
        settings(CostSettings, config, "cost", **{lists[0]: float(value)}) for value in sorted(set(values))
    ]


def make_predictor(config: DictConfig, space: SearchSpace, needs_supernet: bool = True) -> Predictor:
    """The predictor of a ``predictor`` config.

    Args:
        needs_supernet: whether there is a supernet from which it can learn.

    Raises:
        ValueError: it would have to learn from what is not there.
    """
    if not needs_supernet and config.get("predictor") is None:
        raise ValueError(
            "without a supernet (+space) a predictor that has learned already is needed: predictor=published predictor.path=FILE"
        )
    target = hydra.utils.get_method(config.predictor._target_)
    extra = {"space": space} if "space" in inspect.signature(target).parameters else {}
    predictor: Predictor = hydra.utils.instantiate(config.predictor, **extra)
    if not needs_supernet and not isinstance(predictor, PublishedPredictor):
        raise ValueError(
            f"{type(predictor).__name__} learns from a supernet: give supernet=FOLDER instead of +space, or predictor=published"
        )
    return predictor


# What may change about the data between the steps of the job: where they are and how they are read, never which images are
# trained, ranked and tested on.
_MAY_MOVE = ("root", "download", "num_workers", "memory_limit_gb", "max_corrupt")


def moved_data(trained_on: Mapping[str, Any], changes: DictConfig) -> dict[str, Any]:
    """The data config of an earlier step with the ``changes`` of this one.

    Raises:
        ValueError: a change that would mix the training, held-out and test images.
    """
    for name in map(str, changes):
        if name not in _MAY_MOVE:
            raise ValueError(
                f"data.{name} is that of the supernet's training and cannot change, or its training images could be ranked or "
                f"tested on; what can: {', '.join(_MAY_MOVE)}"
            )
    return dict(trained_on) | plain(changes)
