"""Published Once-for-All supernets: their files read, and their tensors under the names of the bank."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from oneshot.published.families import FAMILIES, Family, family_of, num_blocks
from oneshot.reading import read_torch
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet

# Names that differ between releases, which wrapped layers one time more or less, and the shortest form of each.
_SPELLINGS = (
    (".mobile_inverted_conv.", ".conv."),
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
)
_CLASSIFIER = ("bank.classifier.weight", "bank.classifier.bias")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file that holds a state dict, or a dictionary with one as ``state_dict``. Loading never runs code
    from the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, it holds more than tensors and plain values, or it is one of oneshot's own.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    content = read_torch(path)
    if isinstance(content, Mapping) and str(content.get("format")).startswith("oneshot."):
        raise ValueError(f"{path} is a file of oneshot ({content['format']}), not a published checkpoint")
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no state dict but a {type(content).__name__}")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{path} holds no state dict: {_few(others)} {'are' if len(others) > 1 else 'is'} no tensor")
    return {str(name): tensor for name, tensor in content.items()}


def load_published(supernet: Supernet, path: str | Path, reset_classifier: bool = False) -> None:
    """Loads the weights of a published Once-for-All supernet, such as ``ofa_mbv3_d234_e346_k357_w1.0``, into ``supernet``. With
    ``reset_classifier`` its classifier stays as it is, so that the number of classes may be another.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or one of another space; the message says in what it differs.
    """
    try:
        state = bank_state(supernet.space, read_checkpoint(path), supernet.state_dict(), reset_classifier)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    supernet.load_state_dict(state)


def bank_state(
    space: SearchSpace, published: Mapping[str, Tensor], fresh: Mapping[str, Tensor], reset_classifier: bool = False
) -> dict[str, Tensor]:
    """The state dict of ``Supernet(space)`` with the tensors of a ``published`` supernet, each used exactly once.

    Args:
        published: its state dict, in the spelling of any release, with or without ``module.`` in front.
        fresh: the supernet's own state dict: it says which tensors there have to be, and of which shapes and types.
        reset_classifier: take the classifier from ``fresh``, whatever the number of classes.

    Raises:
        ValueError: the checkpoint is not of this space; the message says in what it differs.
    """
    family = family_of(space)
    given = _respelled(published)
    wanted = {_shortest(family.published_name(space, key)): key for key in fresh}
    _check_family(family, given)
    _check_size(space, given, {name: fresh[key] for name, key in wanted.items()})
    state = dict(fresh)
    for name, key in wanted.items():
        if reset_classifier and key in _CLASSIFIER:
            continue
        if name not in given:
            if name.endswith("num_batches_tracked"):  # earlier PyTorch did not write it
                continue
            raise ValueError(f"the checkpoint has no {name}, which this space needs")
        tensor, shape = given[name], fresh[key].shape
        if tensor.shape != shape:
            classes = f"; it has {len(tensor)} classes, this space {len(fresh[key])}" if key in _CLASSIFIER else ""
            hint = " (reset_classifier=True, or new_classifier=true in a command, keeps a fresh one)" if classes else ""
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} in the checkpoint, {tuple(shape)} in this space{classes}{hint}"
            )
        state[key] = tensor.to(fresh[key].dtype)
    leftover = [name for name in given if name not in wanted]
    if leftover:
        raise ValueError(f"the checkpoint has tensors for which this space has no place: {_few(leftover)}")
    return state


def _shortest(name: str) -> str:
    for long, short in _SPELLINGS:
        name = name.replace(long, short)
    return name


def _respelled(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    given: dict[str, Tensor] = {}
    for key, tensor in published.items():
        name = _shortest(key.removeprefix("module."))
        if name in given:
            raise ValueError(f"the checkpoint has {name} twice, in two spellings")
        given[name] = tensor
    return given


def _check_family(family: Family, given: Mapping[str, Tensor]) -> None:
    for other in FAMILIES:
        if other.mark in given and other is not family:
            raise ValueError(f"the checkpoint is of {other.space.__name__}, not of {family.space.__name__}")
    if "first_conv.conv.weight" not in given or family.mark not in given:
        raise ValueError(f"the checkpoint is of no Once-for-All supernet known here: it has {_few(given)}")


def _check_size(space: SearchSpace, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises ValueError where depths, width, kernel sizes or expansions of the checkpoint are others than those of the space."""
    blocks = {int(match[1]) for name in given if (match := re.match(r"blocks\.(\d+)\.", name))}
    counts = num_blocks(space)
    if len(blocks) != 1 + sum(counts):
        raise ValueError(
            f"the checkpoint has {len(blocks)} blocks, this space {1 + sum(counts)}: one and the largest depths {list(counts)}"
        )
    for name in ("feature_mix_layer.conv.weight", "first_conv.conv.weight"):
        if name in given and len(given[name]) != len(wanted[name]):
            width = getattr(space, "width_multiplier", 1.0)
            seems = len(given["feature_mix_layer.conv.weight"]) / len(wanted["feature_mix_layer.conv.weight"]) * width
            raise ValueError(
                f"the checkpoint seems to be of width {seems:.2g} ({name} has {len(given[name])} channels), this space is of "
                f"width {width:g}"
            )
    for index in sorted(blocks - {0}):
        prefix = f"blocks.{index}.conv.depth_conv.conv"
        found, needed = (_kernels(tensors, prefix) for tensors in (given, wanted))
        if found != needed:
            has_matrices = any(name.endswith("_matrix") for name in given)
            hint = "" if has_matrices == any(name.endswith("_matrix") for name in wanted) else _TRANSFORMS[has_matrices]
            raise ValueError(f"blocks.{index} has kernels {found} in the checkpoint, {needed} in this space{hint}")
        weight = f"{prefix}.weight"
        inputs = f"blocks.{index}.conv.inverted_bottleneck.conv.weight"
        if weight in given and inputs in given and given[inputs].shape[1] == wanted[inputs].shape[1]:
            found_ratio, ratio = (len(tensors[weight]) / tensors[inputs].shape[1] for tensors in (given, wanted))
            if found_ratio != ratio:
                raise ValueError(
                    f"blocks.{index} expands {found_ratio:.3g} times in the checkpoint, {ratio:.3g} times in this space"
                )


_TRANSFORMS = (
    "; the checkpoint has no matrices between them, the space has kernel_transform=True",
    "; the checkpoint has matrices between them, the space has kernel_transform=False",
)


def _kernels(tensors: Mapping[str, Any], prefix: str) -> list[int]:
    """The kernel sizes of a depthwise convolution: its own and those that matrices lead to."""
    weight = tensors.get(f"{prefix}.weight")
    sizes = set() if weight is None else {int(weight.shape[-1])}
    for name in tensors:
        match = re.fullmatch(rf"{re.escape(prefix)}\.(\d+)to(\d+)_matrix", name)
        if match:
            sizes |= {int(match[1]), int(match[2])}
    return sorted(sizes)


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
