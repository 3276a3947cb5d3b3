"""Garbage collection beside long work."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_OF_PYTHON = 5000  # more than Python 3.12 leaves out by itself, 375, and far less than a program that has loaded torch


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Inside, what exists already is left out of garbage collection. The modules of a program are half a million objects, and
    each network that is built brings the next walk through all of them nearer: a fifth of the time of ``Supernet.extract``.

    Where something is left out already, whoever did so decides, and nothing changes.
    """
    if gc.get_freeze_count() > _OF_PYTHON:
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
