"""Nested arguments and results of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def leaves(value: Any) -> Iterator[Any]:
    """The items of nested lists, tuples, dicts and slices."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, slice):
        yield from leaves((value.start, value.stop, value.step))
    else:
        yield value


def replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Nested lists, tuples, dicts and slices with every item replaced."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(item, replace) for item in value))
    if isinstance(value, (list, tuple)):
        items = [replaced(item, replace) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {name: replaced(item, replace) for name, item in value.items()}
    if isinstance(value, slice):
        return slice(*(replaced(item, replace) for item in (value.start, value.stop, value.step)))
    return replace(value)
