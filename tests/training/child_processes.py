"""Child processes that start in a fraction of a second: forked from a server that has imported the package once."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "oneshot.config",
        "oneshot.pipeline.retrain",
        "oneshot.pipeline.search_supernet",
        "oneshot.pipeline.train",
        "sklearn.datasets",
        "timm.data",
        "timm.optim",
        "timm.scheduler",
        "timm.utils",
        "torch.utils.tensorboard",
    ]
)


@dataclass(frozen=True)
class Finished:
    """How a program ended and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def error_lines(self) -> list[str]:
        """What it wrote to stderr."""
        return self.stderr.splitlines()


def start(function: Callable[..., object], *args: Any) -> BaseProcess:
    """Calls a function of an importable module in a child process."""
    process = _context.Process(target=function, args=args, daemon=True)
    process.start()
    return process


def wait(process: BaseProcess, timeout: float = 120) -> int:
    """Its exit code, negative for a signal; a process that hangs is killed."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the child process was still running after {timeout} seconds")
    return process.exitcode


def start_program(script: str, arguments: Sequence[str], folder: Path, log: Path) -> BaseProcess:
    """Starts ``python <script> <arguments>`` in ``folder``; it writes to ``log`` with the endings .out and .err."""
    return start(_run_program, script, list(arguments), str(folder), str(log))


def run_program(script: str, arguments: Sequence[str], folder: Path, log: Path | None = None) -> Finished:
    """``python <script> <arguments>`` in ``folder``, to its end."""
    log = folder / ".output" if log is None else log
    return finish(start_program(script, arguments, folder, log), log)


def finish(process: BaseProcess, log: Path) -> Finished:
    """Waits for a program that ``start_program`` started."""
    code = wait(process)
    return Finished(code, log.with_suffix(".out").read_text(), log.with_suffix(".err").read_text())


def _run_program(script: str, arguments: list[str], folder: str, log: str) -> None:
    os.chdir(folder)
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(Path(log).with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - to the end of the process
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    sys.argv = [str(ROOT / script), *arguments]
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
