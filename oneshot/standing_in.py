"""Functions of torch that are computed by others for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode


class StandIn(TorchFunctionMode):
    """A context in which one of torch's functions is computed by another. What is called is looked at, not which modules there
    are, and what ``other`` calls is torch's own again.

    Args:
        function: torch's.
        other: takes the same arguments.
    """

    def __init__(self, function: Callable[..., Any], other: Callable[..., Any]) -> None:
        super().__init__()
        self._function, self._other = function, other

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (self._other if func is self._function else func)(*args, **(kwargs or {}))
