"""One clear line for whatever the user got wrong."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path
from shlex import quote

from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from oneshot.arch import suggest
from oneshot.config.commands import command
from oneshot.config.keys import keys_of, no_setting
from oneshot.config.paths import CONF
from oneshot.config.quoting import override
from oneshot.training import NonFiniteLossError

_QUOTES = "[\"']"
_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def explain(error: BaseException, config_name: str) -> str | None:
    """One line for an error that the user can mend, None for one that is ours."""
    chain = _chain(error)
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
        if "Config group override must be" in text:
            groups = [word for word in sys.argv[1:] if (CONF / word.partition("=")[0].lstrip("+")).is_dir()]
            named = [word for word in groups if re.search(r"=(?:null|true|false|[\d.{-].*)$", word, re.IGNORECASE)]
            hint = "; search=NAME is a search without one" if "predictor=null" in named else ""
            return f"{' or '.join(named or groups)}: such a group is chosen by the name of one of its files{hint}"
        if isinstance(cause, OverrideParseException):
            reason = text.splitlines()[0]
            return _unreadable(cause.override, "Hydra cannot read it" if reason.startswith("Lexer") else reason)
        several = re.search(r"(?s)Ambiguous value for argument '(.*?)'\n1\.|Sweep parameters '(.*)' requires", text)
        if several:
            reason = "several values take -m, a run for each, or brackets, [A,B], for a list"
            return _unreadable(several[1] or several[2], reason)
        if isinstance(cause, (InterpolationResolutionError, GrammarParseError)):
            typed = next((word for word in sys.argv[1:] if "${" in word and not word.startswith("run=")), None)
            if typed is not None:
                return _unreadable(typed, text.splitlines()[0])
        if isinstance(cause, OmegaConfBaseException):
            first = text.splitlines()[0]
            full = re.search(r"full_key: (\S+)", text)
            return f"{full.group(1)}: {first}" if full and full.group(1) not in first else first
    for cause in reversed(chain):
        if isinstance(cause, (ValueError, OSError, NonFiniteLossError)) or (
            isinstance(cause, RuntimeError) and type(cause).__module__ == "builtins" and "export" in str(cause).lower()
        ):
            if isinstance(cause, OSError) and cause.strerror:
                place = next((each.filename for each in chain if isinstance(each, OSError) and each.filename), "")
                return f"{place}: {cause.strerror}".lstrip(": ")
            return " ".join(_with_places(cause, chain).split())
    if isinstance(error, HydraException):
        return " ".join(str(error).split())
    return None


def _with_places(cause: BaseException, chain: list[BaseException]) -> str:
    """What ``cause`` says, with the places that were put before it or the words around it on its way up the chain."""
    text = str(cause)
    for outer in reversed(chain[: chain.index(cause)]):
        if isinstance(outer, ValueError) and text in str(outer):
            text = str(outer)
    return text


def name_folder(error: BaseException, folder: Path) -> None:
    """Lets the errors of a full disk, which name no file when they come from a write, name at least the run's folder."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL and cause.filename is None:
            cause.filename = str(folder)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and those that led to it, the first cause last."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return chain


def _unreadable(typed: str, reason: str) -> str:
    """``data.root=a,b`` cannot be read: how is it written where the characters are meant as they are?"""
    key, equal, value = typed.partition("=")
    if not equal or not value:
        return f"{typed}: {reason}"
    if re.fullmatch(r"\{.*[\"'].*\}", value):
        return f"{typed}: {reason}; the keys of a mapping have no quotes: {quote(key + equal + re.sub(_QUOTES, '', value))}"
    return f"{typed}: {reason}; text with such characters is quoted: {override(key, value)}"


def _unknown_key(key: str, config_name: str) -> str:
    """``trainer.epoch`` is unknown: what is the nearest key?"""
    group = key.partition(".")[0]
    if {"-m", "--multirun"} & {*sys.argv[1:]} and any(re.match(rf"\+?{group}=[\w,]+,", word) for word in sys.argv[1:]):
        return f"{key} is not known before {group} is chosen, as each run of a sweep does: ++{key}=VALUE sets it in all"
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
    if any(word.startswith("~") and key.partition(".")[0] == word[1:] for word in sys.argv[1:]):
        return f"{key} cannot be set where ~{key.partition('.')[0]} leaves it out"
    if key == "space" or (key == "regulariser" and config_name == "train_supernet"):
        return f"{key}=NAME takes a plus: +{key}=NAME"
    if key in known:
        return f"{key!r} takes new entries with a plus: +{key}.NAME=VALUE"
    if choosing := _choosing(key, config_name):
        return choosing
    if key.startswith("phases.") and not any(name.startswith("phases.") for name in known):
        return f"there is no setting {key!r}: this training has no phases (+{key}=VALUE adds one, trainer=NAME may bring some)"
    return f"{no_setting(key, known)} (all settings: {command(config_name, '--cfg job')})"


def _choosing(key: str, config_name: str) -> str:
    """Which choices of a group have a setting, as ``search.num_samples`` is one of ``search=random``; "" for none."""
    group, _, name = key.partition(".")
    if config_name not in ("train_supernet", "search_subnet") or group not in ("search", "predictor", "sampler"):
        return ""
    files = sorted((CONF / group).glob("*.yaml"))
    having = [path.stem for path in files if name in keys_of(OmegaConf.load(path))]
    if not having:
        return ""
    return f"{key} goes with {' or '.join(f'{group}={each}' for each in having)}: name one of them in the command, too"
