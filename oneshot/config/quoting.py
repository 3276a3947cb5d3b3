"""Settings as they are typed: quoted for the shell, for Hydra's grammar of overrides and for OmegaConf's interpolations."""

from __future__ import annotations

import re
import shlex

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
