"""From configs to objects."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oneshot.config.building import DATA, PREDICTORS, SAMPLERS, STRATEGIES, build
from oneshot.config.keys import keys_of, no_setting
from oneshot.costs import CostSettings, RelativeCostSettings
from oneshot.data import MAY_MOVE, ImageData, Recorded
from oneshot.pipeline.folders import Trained
from oneshot.predictors import Predictor, PublishedPredictor
from oneshot.reading import short
from oneshot.samplers import DifferentiableSampler, Sampler
from oneshot.spaces.base import SearchSpace
from oneshot.training import PhaseSettings, TrainSettings

T = TypeVar("T")


def settings(kind: type[T], config: DictConfig, group: str, **extra: Any) -> T:
    """The dataclass ``kind`` with the values of ``config[group]`` and ``extra``; types and names are checked."""
    return _settings(kind, config[group], group, keys_of(config), extra)


def phase_settings(config: DictConfig) -> dict[str, PhaseSettings]:
    """The phases of the training of a supernet by name, in order."""
    fields = [f"phases.{name}.{field.name}" for name in config.phases for field in dataclasses.fields(PhaseSettings)]
    return {
        str(name): _settings(PhaseSettings, phase, f"phases.{name}", fields, {})
        for name, phase in config.phases.items()
    }


def _settings(kind: type[T], values: Any, where: str, known: Sequence[str], extra: Mapping[str, Any]) -> T:
    if not isinstance(values, DictConfig):
        raise ValueError(f"{where} holds settings by name, not {short(values)}")
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in map(str, values):
        if name not in fields or (name == "seed" and name in extra):
            others = [key for key in known if key != f"{where}.{name}"]
            raise ValueError(no_setting(f"{where}.{name}", others))
    try:
        given = {name: value for name, value in values.items() if name not in extra}
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), given, dict(extra)))
    except OmegaConfBaseException as error:
        raise ValueError(f"{where}.{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(made, kind)
    return made


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, everything resolved."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def patterns_of(options: object) -> dict[str, Any]:
    """Options by pattern of choice names: on a command line ``options.stage1.depth`` is two levels of one name.

    Raises:
        ValueError: they are no such thing.
    """
    if not isinstance(options, DictConfig):
        raise ValueError(f"options are lists by pattern of choice names, not {short(options)}")

    def named(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in values.items():
            found |= named(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        return found

    return named(plain(options), "")


def check_apart(patterns: Iterable[str], strongest: Iterable[str]) -> None:
    """Raises ValueError where a pattern of ``options`` is of a choice whose options ``strongest.run`` gives."""
    names = list(strongest)
    for pattern in patterns:
        if both := fnmatch.filter(names, pattern):
            raise ValueError(
                f"options.{pattern} and strongest.run both say what {both[0]} may be: leave one of them out"
            )


def make_data(config: Mapping[str, Any], recorded: Recorded | None = None) -> ImageData:
    """The image data of a ``data`` config, which may come from a checkpoint: see ``build``.

    Args:
        recorded: the split of an earlier step to take over.
    """
    made = build(config, DATA, "data", **({} if recorded is None else {"recorded": recorded}))
    assert isinstance(made, ImageData)
    return made


def make_sampler(config: Mapping[str, Any], space: SearchSpace, seed: int, **changes: Any) -> Sampler:
    """The sampler of a ``sampler`` config, which may come from a checkpoint, with some of its settings changed."""
    if not isinstance(config, Mapping):
        raise ValueError(f"sampler holds settings by name, not {short(config)}")
    learning = config.get("learning")  # which other samplers have, too
    stops = isinstance(learning, Mapping) and "stopping" in learning
    if SAMPLERS.made.get(str(config.get("_target_"))) is not DifferentiableSampler and (
        name := "learning.stopping" if stops else "regularisers" if "regularisers" in config else None
    ):
        raise ValueError(
            f"sampler.{name} (+regulariser=...) is for samplers that learn the architecture by gradient, such as sampler=darts, "
            f"not for {short(config.get('_target_'))}"
        )
    made = build({**config, **changes}, SAMPLERS, "sampler", space=space, seed=seed)
    assert isinstance(made, Sampler)
    return made


def make_strategy(config: DictConfig) -> Any:
    """The strategy of a ``search`` config."""
    return build(plain(config.search), STRATEGIES, "search")


def trained_sampler(trained: Trained) -> Sampler:
    """The sampler of a supernet's training, with what it has learned.

    Raises:
        ValueError: there are several supernets, or the sampler is not one of oneshot's.
    """
    if trained.members:
        raise ValueError(
            "a derivation draws from the sampler of one supernet, not of several: give one as supernet=FOLDER"
        )
    config = trained.config
    try:
        sampler = make_sampler(config.get("sampler"), trained.supernet.space, config["seed"])  # type: ignore[arg-type]
        sampler.load_state_dict(dict(trained.sampler_state))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{trained.folder} does not hold the sampler of its training: {short(str(error))}") from error
    return sampler


def training_of(trained: Trained) -> TrainSettings:
    """How a supernet was trained.

    Raises:
        ValueError: its checkpoint does not say.
    """
    recorded = trained.config
    if not isinstance(recorded.get("trainer"), Mapping):
        raise ValueError(f"{trained.folder} does not say how it was trained")
    config = OmegaConf.create({"trainer": recorded["trainer"], "phases": recorded.get("phases") or {}})
    assert isinstance(config, DictConfig)
    listed = sum(phase.epochs for phase in config.phases.values())
    extra = {"epochs": listed} if config.trainer.get("epochs") is None else {}
    return settings(TrainSettings, config, "trainer", seed=recorded["seed"], **extra)


def cost_settings(config: DictConfig) -> tuple[str, list[CostSettings]]:
    """The cost limits of a search, several where one of them is a list, in rising order; and the cost that they limit. Limits
    such as ``50%`` stay percentages: see ``RelativeCostSettings``.

    Raises:
        ValueError: more than one list, an empty one, one in which a limit comes twice, or limits that are no positive numbers.
    """
    names = {"max_macs": "macs", "max_params": "params", "max_latency_ms": "latency_ms"}
    lists = [name for name in names if isinstance(config.cost.get(name), ListConfig)]
    given = [name for name in names if config.cost.get(name) is not None]
    if len(lists) > 1:
        raise ValueError(f"one of the limits can be a list, not both cost.{lists[0]} and cost.{lists[1]}")
    single = {name: _percentage(name, config.cost[name]) for name in given if name not in lists}
    values = {name: value for name, value in single.items() if value is not None}
    if not lists:
        return names[given[0]] if given else "macs", [_costs(config, values, tuple(values))]
    listed = list(config.cost[lists[0]])
    if not listed:
        raise ValueError(f"cost.{lists[0]} is an empty list")
    shares = [_percentage(lists[0], value) for value in listed]
    if any(share is not None for share in shares) and None in shares:
        raise ValueError(f"cost.{lists[0]} is a list of percentages or one of numbers, not {listed!r}")
    for value, share in zip(listed, shares, strict=True):
        if isinstance(value, bool) or (not isinstance(value, (int, float)) and share is None):
            raise ValueError(f"cost.{lists[0]} is a list of numbers, not {listed!r}")
    numbers = sorted({float(value) if share is None else share for value, share in zip(listed, shares, strict=True)})
    if len(numbers) < len(listed):
        raise ValueError(f"cost.{lists[0]} is a list of different limits, not {', '.join(map(str, listed))}")
    percentages = (*values, *(lists if shares[0] is not None else ()))
    return names[lists[0]], [_costs(config, values | {lists[0]: number}, percentages) for number in numbers]


def _costs(config: DictConfig, values: Mapping[str, float], percentages: tuple[str, ...]) -> CostSettings:
    made = settings(CostSettings, config, "cost", **values)
    return RelativeCostSettings(**vars(made), percentages=percentages) if percentages else made


def _percentage(name: str, value: object) -> float | None:
    """The number of a limit such as ``50%``, None for one that is no percentage.

    Raises:
        ValueError: it is of a cost that has none, or limits nothing.
    """
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*", value)
    if match is None or not float(match[1]):
        raise ValueError(f"cost.{name} is a percentage above 0, such as 50%, not {short(value)}")
    if name == "max_latency_ms":
        raise ValueError(
            "cost.max_latency_ms is a number of milliseconds; percentages can be those of cost.max_macs and max_params"
        )
    if float(match[1]) > 100:
        raise ValueError(
            f"cost.{name}={match[0].strip()} limits nothing: 100% is the network that the space was made of, the largest in it"
        )
    return float(match[1])


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
    given = plain(config.predictor)
    published = given.get("_target_") == "oneshot.predictors.PublishedPredictor.load"
    predictor: Predictor = build(given, PREDICTORS, "predictor", **({"space": space} if published else {}))
    if not needs_supernet and not isinstance(predictor, PublishedPredictor):
        raise ValueError(
            f"{type(predictor).__name__} learns from a supernet: give supernet=FOLDER instead of +space, or predictor=published"
        )
    return predictor


def later_data(config: DictConfig) -> dict[str, Any]:
    """The data config of a step that reads its own images where others take over those of an earlier step: what such a step may
    change is null unless the command says otherwise.

    Raises:
        ValueError: the command names no data.
    """
    given = plain(config.data)
    if "_target_" not in given:
        raise ValueError("untrained networks are scored on images: add data=NAME, such as data=digits, to the command")
    accepted = inspect.signature(DATA.made[given["_target_"]]).parameters if given["_target_"] in DATA.made else given
    return {
        name: value for name, value in given.items() if value is not None or name in accepted or name not in MAY_MOVE
    }


def moved_data(trained_on: object, changes: DictConfig) -> dict[str, Any]:
    """The data config of an earlier step with the ``changes`` of this one; those that are None are none.

    Raises:
        ValueError: a change that would mix the training, held-out and test images, or ``trained_on`` is no config.
    """
    if not isinstance(trained_on, Mapping):
        raise ValueError(f"data holds settings by name, not {short(trained_on)}")
    made = {name: value for name, value in plain(changes).items() if value is not None}
    for name in made:
        if name not in MAY_MOVE:
            raise ValueError(
                f"data.{name} is that of the supernet's training and cannot change, or its training images could be ranked or "
                f"tested on; what can: {', '.join(MAY_MOVE)}"
            )
    return dict(trained_on) | made
