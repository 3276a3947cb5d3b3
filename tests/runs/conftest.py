"""The child processes of the training tests; and stores are closed when the test that opened them ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneshot.runs import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    original = Store.__init__
    with contextlib.ExitStack() as opened:

        def remembered(store: Store[Any, Any], *args: Any) -> None:
            original(store, *args)
            opened.callback(store.close)

        monkeypatch.setattr(Store, "__init__", remembered)
        yield
