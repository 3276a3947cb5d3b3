"""The search space: one function that builds an ordinary network from an architecture, and all that follows from it."""

from __future__ import annotations

import copy
import fnmatch
import inspect
import itertools
import json
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from torch import nn

from oneshot.arch import Arch, Choice, Join, Option, suggest
from oneshot.reading import short
from oneshot.sharing import ChannelOrder, SharingRule
from oneshot.spaces.making import Make as Make
from oneshot.spaces.making import Making


class SearchSpace(ABC):
    """A family of networks. A subclass sets ``choices`` and writes ``build``; the rest is derived.

    The constructor's arguments are remembered, so that a checkpoint can name the space; they must be numbers, strings, bools,
    or lists of those.

    Attributes:
        choices: the decisions, each after those on which it depends.
        num_classes: size of the logits.
        in_channels: channels of the input images.
        resolution: input height and width in pixels of spaces that have no choice named ``resolution``.
        sharing: pattern of parameter names (``"*.conv_dw.weight"``) to the rule that makes the cutting rule for a tensor of the
            given largest shape; tensors that no pattern matches are cut by leading slices, convolution kernels in the centre.
        channel_orders: the channels that may be sorted by importance, so that narrow networks inherit those that matter most.
        original: the architecture of the network that the space was made of, where it was made of one.
        starts_trained: whether the initial weights of the largest network are trained ones.
        new_classifier: whether its classifier is not, because they are of other classes.
        joins: the choices that meet in one node of a cell.
    """

    choices: tuple[Choice, ...]
    num_classes: int
    in_channels: int = 3
    resolution: int = 32
    sharing: Mapping[str, Callable[[], SharingRule]] = {}
    channel_orders: Sequence[ChannelOrder] = ()
    original: Arch | None = None
    starts_trained: bool = False
    new_classifier: bool = False
    joins: Sequence[Join] = ()
    definition: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        space = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(space, *args, **kwargs)
        bound.apply_defaults()
        arguments = list(bound.arguments.items())[1:]
        space.definition = {"_target_": f"{cls.__module__}.{cls.__qualname__}"} | {
            name: list(value) if isinstance(value, (tuple, list)) else value for name, value in arguments
        }
        return space

    @classmethod
    def data_defaults(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What settings of the data become that are null, for a space made with ``arguments``: what images must look like for
        trained weights to start from.
        """
        return {}

    @property
    def title(self) -> str:
        """What it is called in reports and in the log."""
        return type(self).__name__

    def notes(self) -> list[str]:
        """What to know about it where it is first used, in sentences."""
        return []

    @abstractmethod
    def build(self, arch: Arch, make: Make) -> nn.Module:
        """The network of ``arch``: ``(batch, in_channels, height, width)`` images to ``(batch, num_classes)`` logits."""

    def canonical(self, values: dict[str, Option]) -> dict[str, Option]:
        """The canonical form of valid ``values``; spaces in which different choices build the same network override it."""
        return values

    def initialize(self, name: str, block: nn.Module) -> None:  # noqa: B027 - optional
        """Sets the initial weights of the freshly made block ``name`` in place; its own initialisation unless overridden."""

    def check(self) -> None:
        """Raises ValueError where two choices share a name, or one depends on a choice that does not come before it."""
        earlier: list[str] = []
        for choice in self.choices:
            if choice.name in earlier:
                raise ValueError(f"two choices are called {choice.name!r}")
            for name, _ in choice.when:
                if name not in earlier:
                    raise ValueError(
                        f"choice {choice.name!r} depends on {name!r}, which is no earlier choice{suggest(name, earlier)}"
                    )
            earlier.append(choice.name)

    def network(self, arch: Arch) -> nn.Module:
        """A new network of ``arch`` with initial weights of its own, drawn from torch's global generator."""

        def make(name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
            module = block(*args, **kwargs)
            self.initialize(name, module)
            return module

        return self.build(arch, Making(arch, make))

    def input_shape(self, arch: Arch) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the images that ``arch`` takes, in pixels."""
        resolution = arch.integer("resolution") if "resolution" in arch else self.resolution
        return self.in_channels, resolution, resolution

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The input heights and widths of its architectures, in pixels."""
        options = next((choice.options for choice in self.choices if choice.name == "resolution"), (self.resolution,))
        return tuple(int(option) for option in options)

    @property
    def max_resolution(self) -> int:
        """The largest input height and width, in pixels, over all architectures."""
        return max(self.input_sizes)

    # Architectures ---------------------------------------------------------------------------------------------------

    def arch(self, values: Mapping[str, Any]) -> Arch:
        """The canonical architecture with these values; values of inactive choices are dropped.

        Raises:
            ValueError: a name that is no choice, an active choice without a value, or a value outside its options.
        """
        names = self._names
        for name in values:
            if name not in names:
                raise ValueError(f"{short(name)} is not a choice of this space{suggest(name, names)}")
        taken: dict[str, Option] = {}
        for choice in self.choices:
            if not choice.is_active(taken):
                continue
            if choice.name not in values:
                raise ValueError(f"choice {choice.name!r} has no value; its options are {list(choice.options)}")
            value = values[choice.name]
            if isinstance(value, (list, dict)) or value not in choice.options:
                raise ValueError(
                    f"choice {choice.name!r} cannot be {short(value)}; its options are {list(choice.options)}"
                )
            taken[choice.name] = choice.options[choice.options.index(value)]
        return Arch(self.canonical(taken))

    def parse(self, text: str) -> Arch:
        """The architecture that ``text`` stands for: JSON of its choices and values. A space with a published table reads its
        keys as well.

        Raises:
            ValueError: it stands for none of this space.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ValueError(f"an architecture is written as a JSON object of choices and values, not {text!r}")
        return self.arch(values)

    def validate(self, arch: Arch) -> None:
        """Raises ValueError, naming the choice, the value and the options, unless ``arch`` is canonical in this space."""
        if self.arch(arch) != arch:
            raise ValueError(f"{arch!r} is not in canonical form; make it with space.arch(...)")

    def decide(self, decision: Callable[[Choice], Option]) -> Arch:
        """The architecture in which ``decision`` answers every active choice, asked in order."""
        taken: dict[str, Option] = {}
        for choice in self.choices:
            if choice.is_active(taken):
                taken[choice.name] = decision(choice)
        return Arch(self.canonical(taken))

    def sample(self, rng: random.Random) -> Arch:
        """A random architecture: a uniform option for each active choice."""
        return self.decide(lambda choice: rng.choice(choice.options))

    @property
    def largest(self) -> Arch:
        """The last option of every choice."""
        return self.decide(lambda choice: choice.options[-1])

    @property
    def smallest(self) -> Arch:
        """The first option of every choice."""
        return self.decide(lambda choice: choice.options[0])

    def covering(self) -> list[Arch]:
        """A few architectures that together touch every parameter at its largest shape: here the largest, and the largest and
        the smallest with one choice at a time set to each of its options. Override it in a space where two choices must take
        special values together before a parameter appears.
        """
        bases = (self.largest, self.smallest)
        return list(dict.fromkeys(arch for base in bases for arch in (base, *self.neighbours(base))))

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """The architectures that differ from ``arch`` in one choice, set to each of its other options. A choice that is inactive
        in ``arch`` is reached by the choices on which it depends; others that become active take their largest option.
        """
        for target in self.choices:
            for option in target.options:
                if target.name in arch and arch[target.name] == option:
                    continue
                forced = _reach({target.name: option}, self.choices, arch)
                if forced is None:
                    continue

                def decision(choice: Choice, forced: dict[str, Option] = forced) -> Option:
                    value: Option = forced.get(choice.name, arch.get(choice.name, choice.options[-1]))
                    return value

                yield self.decide(decision)

    def pairwise(self) -> Iterator[Arch]:
        """Random architectures, always the same ones, that together contain every two options of two choices that any
        architecture contains. There are few: 46 choices of 3 options take about 100.
        """
        rng = random.Random(0)
        options = [(choice, option) for choice in self.choices for option in choice.options]
        seen: set[frozenset[tuple[str, Option]]] = set()
        for (first, one), (second, two) in itertools.combinations(options, 2):
            pair = frozenset({(first.name, one), (second.name, two)})
            if first is second or pair in seen:
                continue
            rest = self.sample(rng)
            forced = _reach({first.name: one, second.name: two}, self.choices, rest)
            if forced is None:
                continue

            def decision(choice: Choice, forced: dict[str, Option] = forced, rest: Arch = rest) -> Option:
                value: Option = forced.get(choice.name, rest.get(choice.name, rng.choice(choice.options)))
                return value

            arch = self.decide(decision)
            seen.update(map(frozenset, itertools.combinations(arch.items(), 2)))
            yield arch

    def enumerate(self) -> Iterator[Arch]:
        """Every architecture once, in the order of the options."""
        seen: set[Arch] = set()
        unique = type(self).canonical is SearchSpace.canonical
        for values in _assignments(self.choices, {}):
            arch = Arch(self.canonical(values))
            if unique:
                yield arch
            elif arch not in seen:
                seen.add(arch)
                yield arch

    @property
    def size(self) -> int:
        """The number of different architectures."""
        if type(self).canonical is not SearchSpace.canonical:
            return sum(1 for _ in self.enumerate())
        return math.prod(_count(part, {}) for part in _components(self.choices))

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Self:
        """This space with fewer options: ``space.restrict({"*.kernel": (7,), "resolution": (32, 40)})``. Patterns match choice
        names; the networks and their shared weights stay the same.

        Raises:
            ValueError: a pattern that matches no choice, or an option that a matching choice does not have.
        """
        if not isinstance(options, Mapping):
            raise ValueError(f"options are lists by pattern of choice names, not {short(options)}")
        choices = {choice.name: choice for choice in self.choices}
        for pattern, allowed in options.items():
            if not isinstance(pattern, str):
                raise ValueError(f"{short(pattern)} is no pattern of choice names")
            matching = fnmatch.filter(choices, pattern)
            if not matching:
                raise ValueError(f"{pattern!r} matches no choice of this space{suggest(pattern, choices)}")
            if isinstance(allowed, str) or not isinstance(allowed, Sequence):
                raise ValueError(
                    f"the options of {pattern!r} are a list, such as [{short(allowed)}], not {short(allowed)}"
                )
            for name in matching:
                choice = choices[name]
                for option in allowed:
                    if option not in choice.options:
                        raise ValueError(
                            f"choice {name!r} cannot be {option!r}; its options are {list(choice.options)}"
                        )
                kept = tuple(option for option in choice.options if option in allowed)
                choices[name] = Choice(name, kept, dict(choice.when))
        space = copy.copy(self)
        space.choices = tuple(choices.values())
        return space

    def whole(self) -> Self:
        """This space without the restrictions of ``restrict``."""
        return type(self)(**{name: value for name, value in self.definition.items() if name != "_target_"})

    @property
    def _names(self) -> list[str]:
        return [choice.name for choice in self.choices]


def _reach(targets: Mapping[str, Option], choices: Sequence[Choice], arch: Arch) -> dict[str, Option] | None:
    """The values to set in ``arch`` so that all ``targets`` are active and taken, or None where that cannot be."""
    by_name = {choice.name: choice for choice in choices}
    possible: dict[str, list[Option]] = {name: [option] for name, option in targets.items()}
    pending = list(targets)
    while pending:
        for name, allowed in by_name[pending.pop()].when:
            if name not in possible:
                pending.append(name)
            possible[name] = [option for option in possible.get(name, by_name[name].options) if option in allowed]
    if not all(possible.values()):
        return None
    return {name: arch[name] if arch.get(name) in options else options[-1] for name, options in possible.items()}


def _assignments(choices: Sequence[Choice], taken: dict[str, Option]) -> Iterator[dict[str, Option]]:
    if not choices:
        yield taken
    elif not choices[0].is_active(taken):
        yield from _assignments(choices[1:], taken)
    else:
        for option in choices[0].options:
            yield from _assignments(choices[1:], taken | {choices[0].name: option})


def _components(choices: Sequence[Choice]) -> list[list[Choice]]:
    """Groups of choices that do not depend on each other, so that their counts multiply."""
    group = {choice.name: {choice.name} for choice in choices}
    for choice in choices:
        for name, _ in choice.when:
            merged = group[name] | group[choice.name]
            for member in merged:
                group[member] = merged
    parts: dict[int, list[Choice]] = {}
    for choice in choices:
        parts.setdefault(id(group[choice.name]), []).append(choice)
    return list(parts.values())


def _count(choices: list[Choice], taken: dict[str, Option]) -> int:
    """The number of assignments; only choices that others depend on are enumerated, the rest are multiplied."""
    controlling = {name for choice in choices for name, _ in choice.when}
    factor = 1
    for index, choice in enumerate(choices):
        if not choice.is_active(taken):
            continue
        if choice.name in controlling:
            rest = choices[index + 1 :]
            return factor * sum(_count(rest, taken | {choice.name: option}) for option in choice.options)
        factor *= len(choice.options)
    return factor
