"""What a command line leaves open and the search space decides: how a network that begins trained is trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
