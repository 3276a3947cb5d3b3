"""Names of settings: which there are, and the nearest one where a name is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oneshot.config.paths import CONF

_ADDED = {"train_supernet": ("space",), "search_subnet": ("space",), "measure_latency": ("space",)}  # with a plus


def check_keys(config: DictConfig, config_name: str) -> None:
    """Refuses what a plus has added to the config and nothing reads. The settings inside a group are checked where they are read.

    Raises:
        ValueError: the message names the nearest setting that there is.
    """
    file = OmegaConf.load(CONF / f"{config_name}.yaml")
    assert isinstance(file, DictConfig)
    groups = [group for entry in file.get("defaults", []) if isinstance(entry, DictConfig) for group in entry]
    known = {*map(str, file), *map(str, groups), *_ADDED.get(config_name, ())}
    for name in map(str, config):
        if name not in known:
            raise ValueError(no_setting(name, (key for key in keys_of(config) if key.partition(".")[0] in known)))


def no_setting(key: str, known: Iterable[str]) -> str:
    """``"there is no setting 'epochs'; did you mean 'trainer.epochs'?"``: the nearest of ``known``."""
    names = list(known)
    groups = {name[:index] for name in names for index, letter in enumerate(name) if letter == "."}
    names = [name for name in names if name not in groups and not name.rpartition(".")[2].startswith("_")]
    group, _, leaf = key.rpartition(".")
    own = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == group}
    every = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = difflib.get_close_matches
    near = [own[name] for name in close(leaf, own, n=1)] or [every[name] for name in every if name == leaf]
    near = near or [every[name] for name in close(leaf, every, n=1)] or close(key, names, n=1, cutoff=0.8)
    return f"there is no setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def keys_of(config: Any, prefix: str = "") -> list[str]:
    """The names of all settings of a config, dots between the levels."""
    if isinstance(config, DictConfig):
        config = OmegaConf.to_container(config)
    if not isinstance(config, Mapping):
        return []
    return [name for key, value in config.items() for name in (f"{prefix}{key}", *keys_of(value, f"{prefix}{key}."))]
