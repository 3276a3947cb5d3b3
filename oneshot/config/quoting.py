"""Settings as they are typed: quoted for the shell, for Hydra's grammar of overrides and for OmegaConf's interpolations."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException


def override(key: str, value: object) -> str:
    """``key=value`` as a word of a POSIX shell's command line that sets ``key`` to the string of ``value``, whatever is in it."""
    return shlex.quote(hydra_override(key, value))


def hydra_override(key: str, value: object) -> str:
    """``key=value`` as Hydra reads it, not yet quoted for a shell; without quotes where it needs none."""
    text = escape_interpolations(str(value))
    bare = f"{key}={text}"
    try:
        if OverridesParser.create().parse_override(bare).value() == text:
            return bare
    except HydraException:
        pass
    return f"{key}={QuotedString(text, Quote.double).with_quotes()}"


def escape_interpolations(text: str) -> str:
    r"""``text`` as OmegaConf keeps it: ``${`` begins an interpolation, ``\${`` stands for itself."""
    return re.sub(r"(\\*)\$\{", lambda found: rf"{found[1] * 2}\${{", text)


_PATHS = ("run", "init", "supernet", "subnet", "arch", "truth", "references", "data.root", "predictor.path")


def check_paths(arguments: Sequence[str]) -> None:
    """Raises ValueError for a path that is text to the user and something else to Hydra, such as ``run=1e3``."""
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            parsed = parser.parse_override(argument)
        except HydraException:  # an option, or a mistake that is reported later
            continue
        key, _, text = argument.partition("=")
        if parsed.key_or_group not in _PATHS or parsed.is_sweep_override() or parsed.is_delete():
            continue
        value, is_run = parsed.value(), parsed.key_or_group == "run"
        fits = isinstance(value, str) or (str(value) == text if is_run else value is None)
        listed = isinstance(value, list) and value != [] and all(isinstance(one, (str, QuotedString)) for one in value)
        if not fits and not (listed and parsed.key_or_group == "supernet"):
            raise ValueError(
                f"{argument}: a path is text, which this is not to Hydra; quoted it is: {override(key, text)}"
            )
