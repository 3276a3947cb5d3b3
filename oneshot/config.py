"""What the entry points share: Hydra's configs in, one clear line and exit code 2 for whatever the user got wrong."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oneshot.arch import suggest
from oneshot.costs import CostSettings
from oneshot.data import ImageData
from oneshot.pipeline.folders import newest
from oneshot.predictors import Predictor, PublishedPredictor
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.loading import find_class
from oneshot.training import Interrupted, NonFiniteLossError, PhaseSettings

T = TypeVar("T")
CONF = Path(__file__).resolve().parent.parent / "conf"
log = logging.getLogger("oneshot")


def entry(config_name: str) -> Callable[[Callable[[DictConfig, Path], None]], Callable[[], None]]:
    """Makes ``main(config, folder)`` a program: composes ``conf/<config_name>.yaml`` with the command line, runs it in a folder
    of its own, and turns the errors that a user can cause into one line on stderr and exit code 2 (130 for Ctrl-C).
    """

    def decorate(main: Callable[[DictConfig, Path], None]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
        def run(config: DictConfig) -> None:
            folder = Path(HydraConfig.get().runtime.output_dir)
            try:
                for name in ("seed", "calibration_images"):
                    if name in config and not isinstance(config[name], int):
                        raise ValueError(f"{name}: {config[name]!r} is not an integer")
                for name in sorted(OmegaConf.missing_keys(config)):
                    raise ValueError(f"{name} has no value: add {name}=... to the command")
                main(config, folder)
            except (KeyboardInterrupt, Interrupted) as stopped:
                hint = (
                    ""
                    if HydraConfig.get().mode is RunMode.MULTIRUN
                    else f"; the same command with run={folder} continues it"
                )
                raise Interrupted(f"{str(stopped) or 'stopped'}{hint}") from None
            except Exception as error:
                # Hydra prints a line of its own about an error that it sees; in this process it need not see it.
                if os.getpid() != process:
                    raise
                errors.append(error)

        process, errors = os.getpid(), list[Exception]()

        def program() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back to this function instead of ending the process
            sys.path.insert(0, os.getcwd())
            try:
                register_spaces(sys.argv[1:])
                run()
            except (KeyboardInterrupt, Interrupted) as stopped:
                _fail(str(stopped) or "stopped", 130)
            except Exception as error:
                errors.append(error)
            lines = [explain(error, config_name) for error in errors]
            if None in lines:
                raise errors[lines.index(None)]
            if lines:
                _fail("; ".join(dict.fromkeys(filter(None, lines))), 2)

        return program

    return decorate


def _fail(line: str, code: int) -> None:
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
    sys.exit(code)


# Errors --------------------------------------------------------------------------------------------------------------


def explain(error: BaseException, config_name: str) -> str | None:
    """One line for an error that the user can mend, None for one that is ours."""
    chain = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for cause in chain:
        text = str(cause)
        missing = re.search(r"Could not find '(\w+)/([^']*)'", text)
        if missing:
            group, name = missing.groups()
            known = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
            return f"there is no {group}={name}{suggest(name, known)} (there are: {', '.join(known)})"
        key = re.search(r"(?:Could not override|Error merging override|Key) '?\+*([\w.@/]+)'?", text)
        if key and ("not in struct" in text or "Could not override" in text):
            return _unknown_key(key.group(1), config_name)
        argument = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
        if argument:
            group = re.search(r"full_key: (\S+)", text)
            return f"{group.group(1) + ': ' if group else ''}{argument.group(1)} has no setting {argument.group(2)!r}"
        if isinstance(cause, OmegaConfBaseException):
            first = text.splitlines()[0]
            full = re.search(r"full_key: (\S+)", text)
            return f"{full.group(1)}: {first}" if full and full.group(1) not in first else first
    for cause in reversed(chain):
        if isinstance(cause, (ValueError, OSError, NonFiniteLossError)) or (
            isinstance(cause, RuntimeError) and type(cause).__module__ == "builtins" and "export" in str(cause).lower()
        ):
            if isinstance(cause, OSError) and cause.strerror:
                return f"{cause.filename or ''}: {cause.strerror}".lstrip(": ")
            return " ".join(str(cause).split())
    if isinstance(error, HydraException):
        return " ".join(str(error).split())
    return None


def _unknown_key(key: str, config_name: str) -> str:
    """``trainer.epoch`` is unknown: what is the nearest key?"""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    overrides = [
        arg for arg in sys.argv[1:] if re.match(r"^\+?(space|data|sampler|trainer|search|cost|retrain)=[\w]+$", arg)
    ]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(config_name, overrides=overrides)
        known = _keys(OmegaConf.to_container(config))
    except Exception:  # the message matters more than the suggestion
        known = []
    tail = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, known, n=1) or tail[:1]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no setting {key!r}{hint} (all settings: python {Path(sys.argv[0]).name} --cfg job)"


def _keys(config: Any, prefix: str = "") -> list[str]:
    if not isinstance(config, Mapping):
        return []
    return [name for key, value in config.items() for name in (f"{prefix}{key}", *_keys(value, f"{prefix}{key}."))]


# From configs to objects ---------------------------------------------------------------------------------------------


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


def make_data(config: Mapping[str, Any]) -> ImageData:
    """The image data of a ``data`` config. Only functions of ``oneshot.data`` are ever called, because the config may come from a
    checkpoint.
    """
    for target in _targets(config):
        if not target.startswith("oneshot.data."):
            raise ValueError(f"data sources are functions of oneshot.data, not {target!r}")
    made = hydra.utils.instantiate(config)
    assert isinstance(made, ImageData)
    return made


def _targets(config: Any) -> list[str]:
    if isinstance(config, Mapping):
        own = [str(config["_target_"])] if "_target_" in config else []
        return own + [target for value in config.values() for target in _targets(value)]
    if isinstance(config, (list, tuple)):
        return [target for value in config for target in _targets(value)]
    return []


class DataKind(Protocol):
    """What a search space takes from the data: the number of classes, and the input height and width in pixels."""

    @property
    def num_classes(self) -> int: ...

    @property
    def image_size(self) -> int: ...


@dataclass(frozen=True)
class DataSize:
    """What a space made without data is for: the number of classes, and the input height and width in pixels."""

    num_classes: int
    image_size: int

    def __post_init__(self) -> None:
        for name in ("num_classes", "image_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is a number from 1, not {value!r}")


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
        ValueError: the search strategy cannot use one, or it would have to learn from what is not there.
    """
    if "search_coded" not in dir(hydra.utils.get_class(config.search._target_)):
        raise ValueError(f"{config.search._target_} has no search_coded(), which a search with a predictor needs")
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


def make_space(config: DictConfig | None, data: DataKind) -> SearchSpace:
    """The search space of a ``space`` config. Arguments that are null and called ``num_classes``, ``resolution`` or
    ``resolutions`` come from the data; resolutions are 3/4, 7/8 and all of the image size, in multiples of 4.
    """
    if config is None:
        raise ValueError(f"no search space: add +space=NAME to the command, with one of {', '.join(known_spaces())}")
    arguments = plain(config)
    found = find_class(arguments.pop("_target_"))
    size = data.image_size
    derived = {
        "num_classes": data.num_classes,
        "resolution": size,
        "resolutions": sorted({max(4, round(size * share / 4) * 4) for share in (0.75, 0.875)} | {size}),
    }
    for name, value in derived.items():
        if name in arguments and arguments[name] is None:
            arguments[name] = value
    for name in arguments:
        if name not in inspect.signature(found).parameters:
            known = list(inspect.signature(found).parameters)
            raise ValueError(
                f"there is no setting 'space.{name}'{suggest(name, known)} (there are: {', '.join(known)})"
            )
    return found(**arguments)


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


def newest_run(given: str | None, root: str, pattern: str, what: str, command: str) -> Path:
    """The path that the user gave, or the newest folder below ``root`` with a file matching ``pattern``.

    Raises:
        FileNotFoundError: none was given and there is none yet.
    """
    if given is not None:
        return Path(given)
    found = newest(Path(root), pattern)
    if found is None:
        raise FileNotFoundError(
            f"there is no {what} below {root} yet: run python {command} first, or give {what}=FOLDER"
        )
    return found


def known_spaces() -> list[str]:
    """The names that ``+space=`` takes: the configs and the user's own files in this folder."""
    own = [
        path.stem
        for path in Path.cwd().glob("*.py")
        if "SearchSpace" in path.read_text(encoding="utf-8", errors="ignore")
    ]
    configs = sorted(path.stem for path in (CONF / "space").glob("*.yaml"))
    return configs + sorted(name for name in own if name not in configs and not (CONF / f"{name}.yaml").exists())


def register_spaces(arguments: list[str]) -> None:
    """Lets ``+space=my_space`` name a file ``my_space.py`` in the current folder (or on PYTHONPATH) that defines one search
    space: its constructor's arguments become the config's keys.
    """
    names = {
        name.strip()
        for argument in arguments
        if (match := re.fullmatch(r"\+?space=([\w,\s]+)", argument))
        for name in match.group(1).split(",")
    }
    for name in names:
        if (CONF / "space" / f"{name}.yaml").exists() or not name.isidentifier():
            continue
        if importlib.util.find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, SearchSpace) and value.__module__ == name
        ]
        if len(found) != 1:
            raise ValueError(
                f"{name}.py defines {len(found)} search spaces; +space={name} needs it to define exactly one"
            )
        node: dict[str, Any] = {"_target_": f"{name}.{found[0].__qualname__}"}
        for parameter in list(inspect.signature(found[0].__init__).parameters.values())[1:]:
            default = None if parameter.default is inspect.Parameter.empty else parameter.default
            from_data = parameter.name in ("num_classes", "resolution", "resolutions")
            node[parameter.name] = None if from_data else list(default) if isinstance(default, tuple) else default
        ConfigStore.instance().store(group="space", name=name, node=node)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
