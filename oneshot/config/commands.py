"""Commands that the programs print, as they can be pasted into the shell that the program was started from."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from oneshot.config.paths import PROGRAMS
from oneshot.config.quoting import override

_COMMANDS = {
    "train_supernet": "oneshot-train",
    "search_subnet": "oneshot-search",
    "retrain_subnet": "oneshot-retrain",
    "export_subnet": "oneshot-export",
    "measure_latency": "oneshot-latency",
}


def command(program: str, *words: str, **settings: object) -> str:
    """The command that starts ``program``, ``"search_subnet"`` for instance: ``oneshot-search`` where this process was started by
    such a command, else Python and the script; then ``words`` as they are and each of ``settings`` quoted.
    """
    started = Path(sys.argv[0])
    if started.stem in _COMMANDS.values():
        start = [_as_found(started.with_name(_COMMANDS[program] + started.suffix))]
    else:
        folder = started.parent if started.stem in _COMMANDS else PROGRAMS  # jobs of a cluster start as something else
        start = [_as_found(Path(sys.executable), "python"), str(folder / f"{program}.py")]
    return " ".join([*map(shlex.quote, start), *words, *(override(key, value) for key, value in settings.items())])


def _as_found(path: Path, *shorter: str) -> str:
    """The name by which the shell finds the executable ``path``: its own or one of ``shorter``, else all of the path."""
    for name in (*shorter, path.name):
        found = shutil.which(name)
        if found is not None and Path(found).parent.resolve() == path.parent.resolve():
            return name
    return str(path)
