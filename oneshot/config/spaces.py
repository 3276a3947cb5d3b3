"""The search space of a config, also one that the user wrote."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from torch import Tensor

from oneshot.arch import suggest
from oneshot.checking import told_with_line
from oneshot.config.making import plain
from oneshot.config.own_code import built_by, mentions_a_space, named_code, named_spaces, run_code
from oneshot.config.paths import CONF
from oneshot.spaces import NetworkSpace
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.loading import construct, find_class

log = logging.getLogger(__name__)


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


def make_space(config: DictConfig | None, data: DataKind) -> SearchSpace:
    """The search space of a ``space`` config. Arguments that are null and called ``num_classes``, ``resolution`` or
    ``resolutions`` come from the data; resolutions are 3/4, 7/8 and all of the image size, in multiples of 4.
    """
    if config is None:
        raise ValueError(f"no search space: add +space=NAME to the command, with one of {', '.join(known_spaces())}")
    arguments = plain(config)
    found = find_class(arguments.pop("_target_", None))
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
    if found is NetworkSpace and (file := built_by(arguments.get("build"))):
        run_code([str(Path(file).expanduser().resolve())])
    space = construct(found, arguments)
    if not found.__module__.startswith("oneshot."):
        check_runs(space)
    log_notes(space)
    return space


def check_runs(space: SearchSpace) -> None:
    """Raises ValueError, with the line of its file, where the largest or the smallest network of a user's space does not make
    logits of images.
    """
    file = getattr(sys.modules.get(type(space).__module__), "__file__", None)
    for arch in (space.largest, space.smallest):
        shape = space.input_shape(arch)
        with torch.random.fork_rng([]), torch.no_grad():
            network = space.network(arch).eval()
            try:
                logits = network(torch.zeros(2, *shape))
            except Exception as error:
                raise ValueError(
                    f"a network of {type(space).__name__} fails on images of {'x'.join(map(str, shape))}, "
                    f"{told_with_line(error, file)} ({arch.to_json()})"
                ) from error
        if not isinstance(logits, Tensor) or logits.shape != (2, space.num_classes):
            given = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"a network of {type(space).__name__} gives {given} for an image, not logits of {space.num_classes} classes "
                f"({arch.to_json()})"
            )


def log_notes(space: SearchSpace) -> None:
    """Logs what is to be known about a space that a command uses, once where it is made or read."""
    for note in space.notes():
        log.info("%s", note)


def data_settings(config: DictConfig) -> dict[str, Any]:
    """The ``data`` config as plain values; what is null there becomes what the trained weights expect that the space starts
    from.
    """
    given = plain(config.data)
    if config.get("space") is None:
        return given
    arguments = plain(config.space)
    defaults = find_class(arguments.pop("_target_", None)).data_defaults(arguments)
    if given.get("crop_pct") is not None:
        defaults.pop("usual_crop_pct", None)  # there is no question
    chosen = {name: value for name, value in defaults.items() if name in given and given[name] is None}
    if chosen:
        log.info(
            "as the trained weights expect: %s", ", ".join(f"data.{name}={value}" for name, value in chosen.items())
        )
    return given | chosen


def known_spaces() -> list[str]:
    """The names that ``+space=`` takes: the configs and the user's own files in this folder."""
    configs = sorted(path.stem for path in (CONF / "space").glob("*.yaml"))
    own = sorted(path.stem for path in Path.cwd().glob("*.py") if mentions_a_space(path))
    return configs + [name for name in own if name not in configs and not (CONF / f"{name}.yaml").exists()]


def register_spaces(arguments: Sequence[str]) -> list[str]:
    """Runs the user's own code that a command line names: with ``code=``, and with ``+space=my_space`` a file ``my_space.py``
    that defines one search space, whose constructor's arguments become the config's keys.

    Returns:
        What was run, for other processes: ``run_code`` does it again there.
    """
    code = named_code(arguments)
    spaces = named_spaces(arguments, code)
    run_code(code)
    for (name, file), module in zip(spaces.items(), run_code(spaces.values()), strict=True):
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, SearchSpace) and value.__module__ == name
        ]
        if len(found) != 1:
            raise ValueError(f"{file} defines {len(found)} search spaces; +space={name} needs it to define exactly one")
        node: dict[str, Any] = {"_target_": f"{name}.{found[0].__qualname__}"}
        for parameter in list(inspect.signature(found[0].__init__).parameters.values())[1:]:
            default = None if parameter.default is inspect.Parameter.empty else parameter.default
            from_data = parameter.name in ("num_classes", "resolution", "resolutions")
            node[parameter.name] = None if from_data else list(default) if isinstance(default, tuple) else default
        ConfigStore.instance().store(group="space", name=name, node=node)
    return list(dict.fromkeys([*code, *spaces.values()]))
