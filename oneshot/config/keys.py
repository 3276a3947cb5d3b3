"""Names of settings: which there are, and the nearest one where a name is none."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from oneshot.config.paths import CONF
from oneshot.reading import short
from oneshot.spaces.base import SearchSpace
from oneshot.training import TrainSettings
from oneshot.training.settings import check_optimizer

log = logging.getLogger(__name__)

_ADDED = {"train_supernet": ("space",), "search_subnet": ("space",), "measure_latency": ("space",)}  # with a plus


def check_keys(config: DictConfig, config_name: str) -> None:
    """Refuses what was added to the config and nothing reads, what was taken away from it, and values of another kind than that
    of ``conf``. The settings inside a group are checked where they are read.

    Raises:
        ValueError: the message names the setting, and the nearest one where there is none of the name.
    """
    file = OmegaConf.load(CONF / f"{config_name}.yaml")
    assert isinstance(file, DictConfig)
    defaults = [entry for entry in file.pop("defaults", []) if isinstance(entry, DictConfig)]
    groups = {str(group): option for entry in defaults for group, option in entry.items()}
    optional = {*_ADDED.get(config_name, ()), *(group for group, option in groups.items() if option is None)}
    expected: dict[str, Any] = {str(name): _plain(value) for name, value in file.items() if name != "hydra"}
    expected |= {group: {} for group in groups if group not in optional}
    given = {str(name): value for name, value in _plain(config).items()}
    for name, value in given.items():
        if name not in expected and name not in optional:
            known = [key for key in keys_of(config) if key.partition(".")[0] in {*expected, *optional}]
            raise ValueError(no_setting(name, known))
        if name in optional or isinstance(expected[name], Mapping):
            if not isinstance(value, Mapping):
                raise ValueError(f"{name} holds settings by name, not {short(value)}")
        elif isinstance(value, Mapping):
            raise ValueError(f"{name} is one value, not settings by name: {short(value)}")
        elif isinstance(expected[name], bool) and not isinstance(value, bool):
            raise ValueError(f"{name} is true or false, not {short(value)}")
    for name in expected:
        if name not in given:
            raise ValueError(f"{name} cannot be left out: leave ~{name} out of the command")


def warn_unread(unread: Mapping[str, str]) -> None:
    """Names the settings of the command line that nothing reads beside the others: those of the groups or names of ``unread``,
    or whole settings, each with what would read them.
    """
    for key in typed_keys(HydraConfig.get().overrides.task):
        if (reader := unread.get(key, unread.get(key.partition(".")[0]))) is not None:
            log.warning("%s has no effect here: it is read %s", key, reader)


def check_emptied(config: Any, words: Iterable[str]) -> None:
    """Raises ValueError for a ``key={}`` that was meant to take something away: Hydra adds what is in it to what is there."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        there = OmegaConf.select(config, key) if value == "{}" else None
        if there:
            names = [str(name) for name in there]
            plain = all(map(str.isidentifier, names))
            instead = " ".join(f"~{key}.{name}" for name in names) if plain else f"{key}=null"
            raise ValueError(f"{word} takes none of {', '.join(names)} away: {instead} does")


def typed_keys(words: Iterable[str]) -> list[str]:
    """The names of settings in the words of a command line, ``key=value`` each."""
    return [re.split(r"[=@]", word.lstrip("+~"), maxsplit=1)[0] for word in words]


def has_typed(words: Iterable[str], group: str) -> bool:
    """Whether the command line says something of a group of settings."""
    return any(key.partition(".")[0] == group for key in typed_keys(words))


def has_typed_lengths(words: Iterable[str]) -> bool:
    """Whether the command line says how long phases are, and not how long all of them are together."""
    keys = typed_keys(words)
    return "trainer.epochs" not in keys and any(re.fullmatch(r"phases\.\w+\.epochs", key) for key in keys)


def unread_by_sampler(sampler: Mapping[str, Any], space: SearchSpace) -> dict[str, str]:
    """The settings of a sampler that nothing reads beside its others, or in this space, each with what would read them."""
    unread = {}
    if not any(join.kept is not None for join in space.joins):
        unread["sampler.threshold"] = "in spaces whose nodes keep a number of edges, such as darts"
    temperature = (sampler.get("relaxation") or {}).get("temperature_of") or {}
    if temperature.get("decay") is not None:
        unread["sampler.relaxation.temperature_of.end"] = "with sampler.relaxation.temperature_of.decay=null"
    for name, one in (sampler.get("regularisers") or {}).items():
        if one is not None and one.get("formula") == "add":
            unread[f"sampler.regularisers.{name}.power"] = "with formula=multiply"
    return unread


def unread_by_trainer(settings: TrainSettings) -> dict[str, str]:
    """The settings of a training that nothing reads beside its others, each with what would read them."""
    from timm.optim import get_optimizer_info

    check_optimizer(settings.optimizer)
    unread = {}
    if settings.clip_grad is None:
        unread["trainer.clip_mode"] = "with trainer.clip_grad"
    if not get_optimizer_info(settings.optimizer.lower()).has_momentum:
        unread["trainer.momentum"] = f"by optimizers with momentum, which {settings.optimizer} has not"
    return unread


def no_setting(key: str, known: Iterable[str]) -> str:
    """``"there is no setting 'epochs'; did you mean 'trainer.epochs'?"``: the nearest of ``known``."""
    names = list(known)
    groups = {name[:index] for name in names for index, letter in enumerate(name) if letter == "."}
    names = [name for name in names if name not in groups and not name.rpartition(".")[2].startswith("_")]
    names = [name for name in names if name != key and not name.startswith(f"{key}.")]  # what is not one either
    group, _, leaf = key.rpartition(".")
    own = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == group}
    every = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = difflib.get_close_matches
    alike = [name for name in names if name.rpartition(".")[2] == leaf]
    near = [own[name] for name in close(leaf, own, n=1)] or close(key, alike, n=1, cutoff=0.0)
    near = near or [every[name] for name in close(leaf, every, n=1, cutoff=0.75)] or close(key, names, n=1, cutoff=0.8)
    return f"there is no setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def keys_of(config: Any, prefix: str = "") -> list[str]:
    """The names of all settings of a config, dots between the levels."""
    config = _plain(config)
    if not isinstance(config, Mapping):
        return []
    return [name for key, value in config.items() for name in (f"{prefix}{key}", *keys_of(value, f"{prefix}{key}."))]


def check_one_smoothing(overrides: Sequence[str]) -> None:
    """Raises ValueError where both kinds of smoothing are asked for: they are one regulariser, the last of them."""
    asked = " ".join(word for word in overrides if re.match(r"\+*regulariser=", word))
    if len(named := dict.fromkeys(re.findall(r"smooth_\w+", asked))) > 1:
        raise ValueError(f"{' and '.join(named)} are two kinds of one regulariser: name one of them")
