"""Memory of the processor that is freed, kept for what is computed next."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_LARGEST, _KEPT = 128 * 2**20, 512 * 2**20
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees of up to 128 MiB at a time, and up to 512 MiB at the end of its memory, in
    place of giving it back to the system. That is where the GNU C library manages memory and the environment does not say how.

    By itself the library gives back at once whatever is larger than 32 MiB, as a layer's output often is, and the system clears
    each page of it before it can be used again: a third of the processor time of a training on images of 128 pixels.

    Returns:
        Whether it does.
    """
    if any(name in os.environ for name in _OF_THE_USER):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  another library's mallopt would mean something else
        return bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(library.mallopt(_TRIM_THRESHOLD, _KEPT))
    except (OSError, AttributeError, TypeError):  # Windows has no such handle
        return False
