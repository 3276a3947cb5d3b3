"""What exists before long work is not walked through again and again."""

from __future__ import annotations

import gc
import weakref

import pytest

from oneshot.garbage import settled


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_is_made_inside_is_collected_and_what_was_there_is_later() -> None:
    before = Node()
    old = weakref.ref(before)
    with settled():
        assert gc.get_freeze_count() > 0
        inside = Node()
        new = weakref.ref(inside)
        del before, inside
        gc.collect()
        assert new() is None
        assert old() is not None
    gc.collect()
    assert old() is None


def test_it_ends_with_an_error_and_leaves_the_choice_of_others() -> None:
    with pytest.raises(ValueError, match="wrong"), settled():
        raise ValueError("wrong")
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        later = Node()
        seen = weakref.ref(later)
        with settled():
            del later
            gc.collect()
            assert seen() is None, "it came after what was left out"
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_what_python_itself_leaves_out_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 begins with 375 objects."""
    frozen: list[str] = []
    monkeypatch.setattr("gc.get_freeze_count", lambda: 375)
    monkeypatch.setattr("gc.freeze", lambda: frozen.append("freeze"))
    monkeypatch.setattr("gc.unfreeze", lambda: frozen.append("unfreeze"))
    with settled():
        pass
    assert frozen == ["freeze", "unfreeze"]
