"""The skeleton of a relaxed network: all options of all choices, mixed where the space says that they meet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from oneshot.arch import Choice, OpenArch, OpenChoiceError, Option, suggest
from oneshot.mix import Mix
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.mixed import Mixed, Remaining
from oneshot.spaces.partial import PartialMixed
from oneshot.spaces.skeleton import Block, Skeletons


@dataclass(eq=False)
class _Scope:
    """What runs if an option does: its own blocks, and mixtures with the scopes of their options."""

    blocks: list[Block] = field(default_factory=list)
    mixtures: list[tuple[Mixed, list[_Scope]]] = field(default_factory=list)


class RelaxedSkeleton:
    """A weightless network in which all options of ``space`` are mixed.

    Args:
        partial_channels: options work on one of so many parts of the channels, where the space says how many there are.

    Attributes:
        network: on the meta device.
        arch: what ``build`` was given, with the values of choices that have one option.

    Raises:
        OpenChoiceError: the space does not say where the options of a choice meet.
        ValueError: ``build`` calls ``make.choose`` with a name that is no choice, or an option that is no module; or the channels
            cannot be divided.
    """

    def __init__(self, space: SearchSpace, skeletons: Skeletons, partial_channels: int = 1) -> None:
        make = _RelaxedMaking(space, skeletons, partial_channels)
        self.arch = OpenArch(space.choices)
        self.network = space.build(self.arch, make)
        self._scope = make.scopes[0]
        for choice in space.choices:
            if len(choice.options) > 1 and choice.name not in make.chosen:
                raise OpenChoiceError(choice)
        if partial_channels > 1 and not make.are_partial:
            name = next(iter(make.chosen), "")
            raise ValueError(
                f"partial_channels={partial_channels}: {type(space).__name__} does not say on how many channels options work: "
                f"write make.choose({name!r}, lambda option, channels: ..., channels=...), or leave partial_channels at 1"
            )

    def fill(self, mix: Mix) -> tuple[dict[Block, None], list[Mixed]]:
        """Gives the mixtures that run their weights; returns the blocks that run, each once, and these mixtures.

        Raises:
            ValueError: the mix does not have the weights of a choice.
        """
        blocks: dict[Block, None] = {}
        filled: list[Mixed] = []

        def visit(scope: _Scope) -> None:
            blocks.update(dict.fromkeys(scope.blocks))
            for mixed, scopes in scope.mixtures:
                filled.append(mixed)
                for position in mixed.fill(mix):
                    visit(scopes[position])

        visit(self._scope)
        return blocks, filled


class _RelaxedMaking:
    """The ``make`` that mixes."""

    def __init__(self, space: SearchSpace, skeletons: Skeletons, partial_channels: int) -> None:
        self._parts = partial_channels
        self.are_partial = False
        self._choices = {choice.name: choice for choice in space.choices}
        self._skeletons = skeletons
        self._mixed: dict[tuple[Any, ...], Mixed] = {}
        self.scopes = [_Scope()]
        self.chosen: set[str] = set()

    def __call__(self, name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        made = self._skeletons.block({}, name, block, args, kwargs)  # options may give one name different shapes
        self.scopes[-1].blocks.append(made)
        return made.module

    def choose(self, name: str, option: Callable[..., Any], channels: int | None = None) -> Any:
        """A mixture of all options; the same one where the same modules meet again."""
        choice = self._choice(name)
        if len(choice.options) == 1:
            return option(choice.options[0]) if channels is None else option(choice.options[0], channels)
        self.chosen.add(name)
        if channels is not None:
            if channels % self._parts:
                raise ValueError(
                    f"partial_channels={self._parts} does not divide the {channels} channels of choice {name!r}"
                )
            option = functools.partial(_on, option, channels // self._parts)
        made = [self._inside(option, value) for value in choice.options]
        modules = [module for module, _ in made]
        for value, module in zip(choice.options, modules, strict=True):
            if module is not None and not isinstance(module, nn.Module):
                raise ValueError(
                    f"make.choose({name!r}, ...) takes a function that returns a module, or None for zero; for {value!r} it "
                    f"returned {module!r}"
                )
        if not any(module is not None for module in modules):
            return None
        key = (name, *(module if module is None else id(module) for module in modules))
        if key not in self._mixed:
            if channels is None or self._parts == 1:
                self._mixed[key] = Mixed(name, modules)
            else:
                self._mixed[key] = PartialMixed(name, modules, channels, self._parts)
                self.are_partial = True
        mixed = self._mixed[key]
        self.scopes[-1].mixtures.append((mixed, [scope for _, scope in made]))
        return mixed

    def unless(self, taken: Mapping[str, Option], build: Callable[[], nn.Module]) -> nn.Module | None:
        """What ``build`` makes, weighed by what the choices leave."""
        open_: dict[str, int] = {}
        for name, value in taken.items():
            options = self._choice(name).options
            if options == (value,):
                return None
            if value in options:
                open_[name] = options.index(value)
        if not open_:
            return build()
        module, scope = self._inside(lambda _: build(), None)
        assert module is not None
        mixed = Remaining(open_, module)
        self.scopes[-1].mixtures.append((mixed, [scope]))
        return mixed

    def _inside(self, option: Callable[[Any], nn.Module | None], value: Any) -> tuple[nn.Module | None, _Scope]:
        scope = _Scope()
        self.scopes.append(scope)
        try:
            return option(value), scope
        finally:
            self.scopes.pop()

    def _choice(self, name: str) -> Choice:
        if name not in self._choices:
            raise ValueError(f"build calls make.choose({name!r}), which is no choice{suggest(name, self._choices)}")
        return self._choices[name]


def _on(option: Callable[..., Any], channels: int, value: Any) -> Any:
    return option(value, channels)
