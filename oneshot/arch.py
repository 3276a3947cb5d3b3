"""Choices and architectures: the two words that every other part of oneshot shares."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Option = int | float | str | bool


@dataclass(frozen=True, init=False)
class Choice:
    """One decision of a search space.

    ``options`` go from the smallest to the largest: ``SearchSpace.smallest`` takes the first and ``largest`` the last.
    ``when`` names the earlier choices on which this one depends and the values under which it is active, for example
    ``Choice("stage1.block3.kernel", (3, 5, 7), when={"stage1.depth": (3, 4)})``; all of them must hold.

    Raises:
        ValueError: no option, an option twice, an option that is not a number, a string or a bool, or a ``when`` without tuples.
    """

    name: str
    options: tuple[Option, ...]
    when: tuple[tuple[str, tuple[Option, ...]], ...]

    def __init__(
        self,
        name: str,
        options: tuple[Option, ...] | list[Option],
        when: Mapping[str, tuple[Option, ...]] | None = None,
    ) -> None:
        if not options:
            raise ValueError(f"choice {name!r} has no options")
        if len(set(options)) != len(options):
            raise ValueError(f"choice {name!r} has an option twice: {list(options)}")
        for option in options:
            if not isinstance(option, (int, float, str, bool)):
                raise ValueError(f"choice {name!r}: options are numbers, strings or bools, not {option!r}")
        for key, values in (when or {}).items():
            if not isinstance(values, (tuple, list)):
                raise ValueError(f"choice {name!r}: when[{key!r}] is a tuple of options, not {values!r}")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", tuple(options))
        object.__setattr__(self, "when", tuple((key, tuple(values)) for key, values in (when or {}).items()))

    def is_active(self, values: Mapping[str, Option]) -> bool:
        """Whether this decision has to be taken, given the earlier ones."""
        return all(name in values and values[name] in allowed for name, allowed in self.when)


@dataclass(frozen=True)
class Join:
    """Choices that meet in one place and compete there, such as the edges into a node of a cell.

    Args:
        choices: their names.
        kept: how many of them an architecture that is derived from weights keeps, by the published rule of the space; None is
            all of them.
        none: the option that is no edge; it is never kept where ``kept`` is a number.
    """

    choices: tuple[str, ...]
    kept: int | None = None
    none: Option = "none"


class Arch(Mapping[str, Option]):
    """An architecture: the option taken for every active choice. Immutable, hashable, and equal to another one of the same
    space exactly when both build the same network. Made by ``SearchSpace.arch``, ``sample`` and the like, which
    validate it and bring it into its canonical form.
    """

    __slots__ = ("_hash", "_values")
    is_open = False
    """Whether choices are open: in a network that mixes their options."""

    def __init__(self, values: Mapping[str, Option]) -> None:
        self._values = dict(values)
        self._hash = hash(frozenset(self._values.items()))

    def __getitem__(self, name: str) -> Option:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(
                f"{name!r} is not an active choice of this architecture{suggest(name, self._values)}"
            ) from None

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a choice, or ``default`` where it is not active."""
        return self._values.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arch):
            return NotImplemented
        return self._hash == other._hash and self._values == other._values

    def __repr__(self) -> str:
        return f"Arch({self._values})"

    def integer(self, name: str) -> int:
        """The value of a choice whose options are integers (kernel sizes, depths, resolutions)."""
        value = self[name]
        if not isinstance(value, int):
            raise TypeError(f"choice {name!r} holds {value!r}, not an integer")
        return value

    def to_dict(self) -> dict[str, Option]:
        """A new dictionary of choice name to value."""
        return dict(self._values)

    def to_json(self) -> str:
        """One line of JSON that ``SearchSpace.arch(json.loads(...))`` reads back."""
        return json.dumps(self._values)


class OpenArch(Arch):
    """What ``build`` reads where the options of choices are mixed: the value of each choice that has a single option."""

    __slots__ = ("_choices",)
    is_open = True

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._choices = {choice.name: choice for choice in choices}
        super().__init__({name: choice.options[0] for name, choice in self._choices.items()})

    def __getitem__(self, name: str) -> Option:
        if name in self._choices and len(self._choices[name].options) > 1:
            raise OpenChoiceError(self._choices[name])
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As ``self[name]``, or ``default`` where there is no such choice."""
        return self[name] if name in self._values else default

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class OpenChoiceError(ValueError):
    """The options of a choice are to be mixed, and the space does not say where they meet."""

    def __init__(self, choice: Choice) -> None:
        super().__init__(
            f"choice {choice.name!r} has {len(choice.options)} options, and build does not say where they meet: write "
            f"make.choose({choice.name!r}, lambda option: ...) there instead of arch[{choice.name!r}], or leave the choice one "
            f"option, such as +options.{choice.name}=[{choice.options[-1]}]"
        )


def suggest(name: object, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name nearest to a mistyped one, or an empty string."""
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
