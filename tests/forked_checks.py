"""Checks of exported files without a fresh interpreter for each: a process that has loaded torch, and lacks oneshot, forks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# torch.export.load imports the last two, which takes seconds.
_SERVER = """
import json, os, sys, traceback
sys.modules["oneshot"] = None
sys.path += [directory for directory in sys.argv[1:] if directory not in sys.path]
import numpy, torch, torch._export.serde.serialize, torch._dynamo
torch.set_num_threads(1)
for line in sys.stdin:
    code, arguments, directory, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.chdir(directory)
        sys.argv = ["-c", *arguments]
        try:
            exec(code, {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedChecks:
    """Takes the place of the module ``subprocess`` in ``oneshot.export``."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, folder: Path) -> None:
        sites = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
        self._errors = folder / "errors"
        self._server = subprocess.Popen(
            [sys.executable, "-I", "-c", _SERVER, *sites],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """``python -I -c code arguments``, as ``subprocess.run`` does it."""
        python, isolated, option, code, *arguments = command
        assert (python, isolated, option) == (sys.executable, "-I", "-c")
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([code, arguments, str(cwd), str(self._errors)]) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(command, code, "", self._errors.read_text())

    def close(self) -> None:
        """Ends the process."""
        self._server.communicate()
