"""Search spaces by name: from a definition kept in a file, and from a user's own Python file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from oneshot.spaces.base import SearchSpace


def find_class(target: str) -> type[SearchSpace]:
    """The search space class called ``target``, such as ``"oneshot.spaces.OFAMobileNetV3"`` or ``"my_space.MySpace"``.

    Nothing but a subclass of ``SearchSpace`` is ever returned, so a file that names another callable cannot have it called.

    Raises:
        ValueError: no such module or class, or one that is no search space.
    """
    module_name, _, class_name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"search space {target!r} cannot be imported ({error}); run in the folder that holds its file, or put that folder "
            "on PYTHONPATH"
        ) from None
    if not (inspect.isclass(found) and issubclass(found, SearchSpace)):
        raise ValueError(f"{target!r} is not a search space: it is no subclass of oneshot.SearchSpace")
    return found


def from_definition(definition: Mapping[str, Any]) -> SearchSpace:
    """The search space that ``SearchSpace.definition`` describes.

    Raises:
        ValueError: the definition names no search space, or arguments that its constructor does not take.
    """
    arguments = {str(name): value for name, value in definition.items() if name != "_target_"}
    found = find_class(str(definition.get("_target_", "")))
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{found.__name__}: {error}") from None
    return found(**arguments)
