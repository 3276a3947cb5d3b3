"""Short names for the choices of an architecture, so that sixty of them fit in a hover card."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oneshot.report.model import Value

_MOST_GROUPS = 8
_LONGEST_VALUE = 14


@dataclass(frozen=True)
class ChoiceGroup:
    """Choices shown on one line: for each kind of choice, the positions of its keys in order."""

    name: str
    kinds: Mapping[str, Sequence[int]]


def group_choices(keys: Sequence[str]) -> list[ChoiceGroup]:
    """Groups the choices by the first dotted part of their names, and by their last part within it.

    "stage1.block1.kernel" and "stage1.block2.kernel" become the kind "kernel" of the group "stage1". Names
    without a dot share one nameless group. Numbered groups are merged when there are more than eight.
    """
    prefixes = [key.split(".")[0] if "." in key else "" for key in keys]
    if len(set(prefixes)) > _MOST_GROUPS:
        prefixes = [_without_number(prefix) for prefix in prefixes]
    groups: dict[str, dict[str, list[int]]] = {}
    for position, (prefix, key) in enumerate(zip(prefixes, keys, strict=True)):
        kind = _without_number(key.rsplit(".", 1)[-1])
        groups.setdefault(prefix, {}).setdefault(kind, []).append(position)
    return [ChoiceGroup(name, kinds) for name, kinds in groups.items()]


def abbreviate(names: Sequence[str]) -> dict[str, str]:
    """The shortest prefix that tells each name from the others: kernel and expand become k and e."""
    distinct = sorted(set(names))
    short: dict[str, str] = {}
    for name in distinct:
        others = [other for other in distinct if other != name]
        lengths = range(1, len(name) + 1)
        short[name] = next(
            (name[:length] for length in lengths if not any(other.startswith(name[:length]) for other in others)), name
        )
    return short


def format_value(value: Value) -> str:
    """A choice as short text: yes or no for a boolean, no trailing zeros, long text cut."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "\u2026"


def format_option(name: str, short_name: str, value: Value) -> str:
    """One option of a block in the field's shorthand: "k5" for a number, "se" or "no se", text as it is."""
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return format_value(value) if isinstance(value, str) else f"{short_name}{format_value(value)}"


def format_architecture(arch: Mapping[str, Value]) -> str:
    """An architecture on one line: "stage1 d3 k5·3·7 e4·6·6 | stage2 ..."."""
    keys = list(arch)
    groups = group_choices(keys)
    short = abbreviate([kind for group in groups for kind in group.kinds])
    parts: list[str] = []
    for group in groups:
        words = [group.name] if group.name else []
        for kind, positions in group.kinds.items():
            values = "\u00b7".join(format_value(arch[keys[position]]) for position in positions)
            # A word such as "conv3x3" or "yes" would run into its abbreviated name.
            glue = "" if values[:1].isdigit() else "="
            words.append(f"{short[kind]}{glue}{values}")
        parts.append(" ".join(words))
    return " | ".join(parts)


def _without_number(name: str) -> str:
    return re.sub(r"[_\-]?\d+$", "", name) or name
