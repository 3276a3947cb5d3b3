"""One clear line for whatever the user got wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from oneshot.arch import suggest
from oneshot.config.keys import keys_of, no_setting
from oneshot.config.paths import CONF
from oneshot.training import NonFiniteLossError


def explain(error: BaseException, config_name: str) -> str | None:
    """One line for an error that the user can mend, None for one that is ours."""
    chain = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for cause in chain:
        text = str(cause)
        missing = re.search(r"Could not find '([\w/]+)/([^']*)'", text)
        if missing:
            group, name = missing.groups()
            known = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
            if group == "hydra/launcher" and name in ("joblib", "submitit_local", "submitit_slurm"):
                return f"{group}={name} needs a package that is not installed: pip install 'oneshot-nas[cluster]'"
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
        known = keys_of(config)
    except Exception:  # the message matters more than the suggestion
        known = []
    if key in known:
        return f"{key!r} takes new entries with a plus: +{key}.NAME=VALUE"
    return f"{no_setting(key, known)} (all settings: python {Path(sys.argv[0]).name} --cfg job)"
