"""Values of files that somebody else wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oneshot.spaces import NASBenchMacro

SPACE = NASBenchMacro(num_classes=3, resolution=8, channels=4, head_channels=8)
CANARY = "canary.txt"  # in the current folder, which is the test's own
TOUCH = f"touch {CANARY}"


def one_line(call: Callable[[], object], error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


WRITE = {"_target_": "oneshot.data.source_folder.Path.write_text", "self": CANARY, "data": "x"}
SYSTEM = {"_target_": "os.system", "command": TOUCH}
