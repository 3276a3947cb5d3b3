"""Several supernets that share out one search space: few-shot search (Zhao et al., ICML 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet


class SupernetFamily(nn.Module):
    """Supernets of parts of one space, each architecture being in exactly one of them.

    Attributes:
        members: the supernets.
        space: what they cover together.

    Raises:
        ValueError: they are of different spaces, or leave out or repeat some architectures of what they cover.
    """

    def __init__(self, members: Sequence[Supernet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first = members[0].space
        for member in members[1:]:
            if member.space.definition != first.definition:
                raise ValueError(
                    f"supernets of one search are of one space, not of {first.definition} and {member.space.definition}"
                )
        whole = first.whole()
        self.space = whole.restrict(
            {choice.name: _union(choice, [member.space for member in members]) for choice in whole.choices}
        )
        sizes = [member.space.size for member in members]
        if sum(sizes) != self.space.size:
            raise ValueError(
                f"the supernets have {' + '.join(map(str, sizes))} networks, but what they cover together has {self.space.size}: "
                "each option of the choice that they share out belongs to one of them"
            )

    def member(self, arch: Arch) -> int:
        """The index of the supernet of ``arch``.

        Raises:
            ValueError: it is in none.
        """
        for index, member in enumerate(self.members):
            assert isinstance(member, Supernet)
            options = {choice.name: choice.options for choice in member.space.choices}
            if all(arch[name] in options.get(name, ()) for name in arch):
                return index
        self.space.validate(arch)
        raise ValueError(f"{arch!r} is in none of the supernets")

    def extract(self, arch: Arch) -> nn.Module:
        """As ``Supernet.extract``."""
        member = self.members[self.member(arch)]
        assert isinstance(member, Supernet)
        return member.extract(arch)


def by_member(supernet: Supernet | SupernetFamily, archs: Sequence[Arch]) -> list[tuple[Supernet, list[Arch]]]:
    """Each supernet with those of ``archs`` that are in it; a single supernet has them all."""
    if isinstance(supernet, Supernet):
        return [(supernet, list(archs))]
    groups: dict[int, list[Arch]] = {}
    for arch in archs:
        groups.setdefault(supernet.member(arch), []).append(arch)
    return [(cast(Supernet, supernet.members[index]), group) for index, group in groups.items()]


def _union(choice: Choice, spaces: Sequence[SearchSpace]) -> list[Option]:
    kept = {
        option for space in spaces for other in space.choices if other.name == choice.name for option in other.options
    }
    return [option for option in choice.options if option in kept]
