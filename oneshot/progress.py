"""How far long work has come: a bar on a terminal, lines in the log elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from oneshot.processes import is_first

SECONDS = 20.0  # between two lines


def progress(
    log: logging.Logger,
    description: str,
    unit: str,
    *,
    iterable: Iterable[Any] | None = None,
    total: int | None = None,
    initial: int = 0,
    leave: bool = True,
) -> tqdm[Any]:
    """tqdm's bar where there is a terminal, once a second has passed. In a batch job or below ``nohup`` it is a line of ``log``,
    at level INFO, with what is done, what the postfix says and the time left: at the first update after 20 s, and whenever
    ``refresh`` is called. Of several processes that train together only the first speaks.

    Args:
        unit: what is counted, in the singular.
        iterable: what to walk; without it the caller counts with ``update``.
        total: how many there will be; by default as many as ``iterable`` says.
        initial: how many were done before.
        leave: whether the bar stays on the terminal.
    """
    common: dict[str, Any] = {"desc": description, "unit": unit, "total": total, "initial": initial}
    if not is_first():
        return tqdm(iterable, **common, disable=True)
    if sys.stderr.isatty():
        return tqdm(iterable, **common, leave=leave, delay=1)
    done = "{n_fmt}" if total is None and not hasattr(iterable, "__len__") else "{n_fmt} of {total_fmt}"
    return tqdm(
        iterable,
        **common,
        leave=False,
        position=0,  # below another bar, tqdm would write moves of the cursor
        delay=1e-9,  # no line at the start
        miniters=1,
        mininterval=SECONDS,
        smoothing=0.0,  # by the average: the newest interval may have held slow first steps alone
        file=_LogFile(log),
        bar_format=f"{{desc}}: {done} {{unit}}s{{postfix}}" + (", {remaining} left" if " of " in done else ""),
        disable=not log.isEnabledFor(logging.INFO),
    )


class _LogFile:
    """Makes lines of a log of what tqdm draws."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def write(self, text: str) -> int:
        if line := text.strip():
            self._log.info("%s", line)
        return len(text)

    def flush(self) -> None:
        """Does nothing: every line is written at once."""
