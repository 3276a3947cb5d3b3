"""Search spaces by name, from a definition kept in a file: nothing is imported because a file names it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from oneshot import spaces
from oneshot.arch import suggest
from oneshot.reading import short
from oneshot.spaces.base import SearchSpace

_MAX_DEPTH = 8


def known_classes() -> dict[str, type[SearchSpace]]:
    """The search spaces that definitions may name: those of oneshot, and those of modules that have been imported already."""
    known: dict[str, type[SearchSpace]] = {}
    pending: list[type[SearchSpace]] = [SearchSpace]  # type: ignore[type-abstract]
    while pending:
        derived = pending.pop(0).__subclasses__()
        known |= {f"{found.__module__}.{found.__qualname__}": found for found in derived}
        pending += derived
    known |= {f"{spaces.__name__}.{name}": vars(spaces)[name] for name in spaces.__all__}
    return {
        name: found
        for name, found in known.items()
        if inspect.isclass(found) and issubclass(found, SearchSpace) and not inspect.isabstract(found)
    }


def find_class(target: object) -> type[SearchSpace]:
    """The search space class called ``target``, such as ``"oneshot.spaces.OFAMobileNetV3"``, or ``"my_space.MySpace"`` once
    ``my_space`` has been imported.

    Raises:
        ValueError: there is none of that name; the message says how to make one's own known.
    """
    known = known_classes()
    if isinstance(target, str) and target in known:
        return known[target]
    names = target.split(".") if isinstance(target, str) and len(target) < 200 else []
    if not 2 <= len(names) <= 9 or not all(map(str.isidentifier, names)) or names[0] in ("oneshot", "os", "builtins"):
        public = [name for name in known if name.rpartition(".")[0] == spaces.__name__]
        raise ValueError(f"{short(target)} is not a search space{suggest(str(target)[:99], public)}")
    file = f"code={names[-2]}.py" if len(names) == 2 else f"code={'.'.join(names[:-1])}"
    raise ValueError(
        f"the search space {short(target)} is not part of oneshot: add {file} (your file, which is run, so it must be one that "
        "you trust) to the command, or in Python import it first"
    )


def from_definition(definition: object) -> SearchSpace:
    """The search space that ``SearchSpace.definition`` describes.

    Raises:
        ValueError: the definition names no search space that is known, or arguments that its constructor does not take.
    """
    if not isinstance(definition, Mapping):
        raise ValueError(f"a search space is defined by its name and arguments, not by {short(definition)}")
    found = find_class(definition.get("_target_"))
    return construct(found, {name: value for name, value in definition.items() if name != "_target_"})


def construct(found: type[SearchSpace], arguments: Mapping[Any, Any]) -> SearchSpace:
    """The search space of a class with ``arguments``, which are plain values.

    Raises:
        ValueError: the constructor does not take them.
    """
    known = list(inspect.signature(found).parameters)
    for name, value in arguments.items():
        if name not in known:
            near = f"{suggest(str(name)[:99], known)} (there are: {', '.join(known)})"
            raise ValueError(f"{found.__name__} has no argument {short(name)}{near}")
        if not is_plain(value):
            raise ValueError(f"{found.__name__}: {name} cannot be {short(value)}: it is no plain value")
    try:
        inspect.signature(found).bind(**arguments)
        return found(**arguments)
    except (TypeError, ArithmeticError, LookupError, AttributeError) as error:  # values of a wrong type
        raise ValueError(f"{found.__name__}: {error}") from error


def is_plain(value: object, depth: int = 0) -> bool:
    """Whether ``value`` is a number, a string, a bool, None, or a list or dictionary of those, and without interpolations."""
    if isinstance(value, str):
        return "${" not in value
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        return all(is_plain(one, depth + 1) for one in value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return all(is_plain(one, depth + 1) for pair in value.items() for one in pair)
    return value is None or isinstance(value, (bool, int, float))
