"""Names of run folders: one for each start, and one for each job of a multirun."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from datetime import datetime

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import ListConfig, OmegaConf

from oneshot.processes import from_first

FIXED = "ONESHOT_FIXED_SETTINGS"
_LONGEST = 60


def run_name() -> str:
    """The local time to the millisecond and four random digits: sorted by time, and different for simultaneous starts. The
    processes of one run take that of the first.
    """
    return from_first(f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"[:-3] + f"-{secrets.token_hex(2)}")


def job_name(number: int, overrides: Sequence[str], fixed: str) -> str:
    """The folder of a multirun's job: its number and the settings in which it differs from others, ``0_seed_1`` for instance.

    Letters, digits, dots, dashes and underscores only, so that it can be typed as it is; a checksum stands for what was replaced
    or cut off.

    Args:
        overrides: the settings that the job was started with, ``key=value`` each.
        fixed: keys, separated by spaces, that all jobs share.
    """
    varied = [text for text in overrides if _key(text) not in fixed.split()]
    whole = "-".join(text.lstrip("+").replace("=", "_", 1) for text in varied)
    short = re.sub(r"[^A-Za-z0-9._]+", "-", re.sub(r"[][{}'\"]", "", whole))[:_LONGEST].strip("-")
    checksum = [] if short == whole else [hashlib.sha256(whole.encode()).hexdigest()[:8]]
    return f"{number}_" + "-".join(filter(None, [short, *checksum])) if varied else str(number)


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~").partition("@")[0]


def note_fixed(arguments: list[str]) -> None:
    """Tells the jobs of a multirun, which may be processes elsewhere, which of the command's settings they all share."""
    parser, fixed = OverridesParser.create(), list[str]()
    for argument in arguments:
        try:
            if not parser.parse_override(argument).is_sweep_override():
                fixed.append(_key(argument))
        except HydraException:  # an option, or a mistake that is reported later
            continue
    os.environ[FIXED] = " ".join(fixed)


def register_names() -> None:
    """Makes the names known to the configs: ``${oneshot.run_name:}`` and ``${oneshot.job_name:}``."""

    def named(number: int, overrides: ListConfig) -> str:
        return job_name(number, OmegaConf.to_container(overrides), os.environ.get(FIXED, ""))  # type: ignore[arg-type]

    OmegaConf.register_new_resolver("oneshot.run_name", run_name, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("oneshot.job_name", named, replace=True)
