"""Memory that is freed: kept, where the C library can be told to."""

import os
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import torch
from oneshot.freed_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for index in range(14):
    if index == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(48 * 2**18)  # 48 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")


def page_faults(how: str, **environment: str) -> int:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], env=plain | environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


@needs_glibc
def test_what_is_freed_is_kept_for_the_next_tensor() -> None:
    """Ten tensors of 12,288 pages each: all are new to the process, or hardly any."""
    pages = 10 * 48 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert page_faults("keep") < pages / 4


@needs_glibc
def test_what_the_environment_says_of_memory_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from oneshot.freed_memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not keep_freed_memory()
