"""What a command line leaves open and the weights decide: how a network that begins trained is trained on."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oneshot.arch import suggest
from oneshot.config.keys import no_setting, typed_keys
from oneshot.config.paths import CONF
from oneshot.pipeline.search_settings import PredictionSettings

log = logging.getLogger(__name__)

PRESET = "pretrained"  # conf/trainer/pretrained.yaml
_SPACES = ("timm", "network")


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


def predictor_for_repaired(
    config: DictConfig, typed: Sequence[str], is_repaired: bool, prediction: PredictionSettings
) -> PredictionSettings:
    """Sets the predictor of a search whose candidates are repaired, as ``repaired`` says, unless the command line chooses how to
    search; returns how it learns, where settings of ``prediction`` that were typed come first.

    Args:
        typed: the settings of the command line, ``key=value`` each.
        prediction: how a predictor learns otherwise.

    Raises:
        ValueError: there is no such predictor.
    """
    keys = typed_keys(typed)
    groups = {key.partition(".")[0] for key in keys}
    name = config.repaired.predictor
    if not is_repaired or name is None or groups & {"search", "predictor"}:
        return prediction
    known = sorted(path.stem for path in (CONF / "predictor").glob("*.yaml"))
    if name not in known:
        raise ValueError(
            f"repaired.predictor is one of {', '.join(known)}, or null, not {name!r}{suggest(str(name), known)}"
        )
    OmegaConf.update(config, "predictor", OmegaConf.load(CONF / "predictor" / f"{name}.yaml"), force_add=True)
    own = {name: config.repaired[name] for name in ("num_pairs", "num_verified") if f"prediction.{name}" not in keys}
    changed = replace(prediction, **own)
    log.info(
        "for repaired weights: predictor=%s, prediction.num_pairs=%d, prediction.num_verified=%d (search=evolution, for one, "
        "scores every candidate)", name, changed.num_pairs, changed.num_verified,
    )  # fmt: skip
    return changed


def for_repaired(config: DictConfig, typed: Sequence[str], is_repaired: bool) -> Mapping[str, Any]:
    """The trainer's settings under ``repaired``, if the network that is trained on is such, but those that were typed.

    Args:
        typed: the settings of the command line, ``key=value`` each.

    Raises:
        ValueError: the trainer has no such setting.
    """
    keys = typed_keys(typed)
    for name in config.repaired:
        if name not in config.trainer:
            raise ValueError(no_setting(f"repaired.{name}", [f"repaired.{known}" for known in config.trainer]))
    if not is_repaired or "trainer" in keys:
        return {}
    return {name: value for name, value in config.repaired.items() if f"trainer.{name}" not in keys}
