"""What sets a network of an elastic space apart from the network that it was made of, in plain values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.spaces.assembly import HELD, Held, Skipped
from oneshot.spaces.elastic_blocks import ends
from oneshot.spaces.groups import numbers_of

_READ_BY_CLASSIFIER = ("num_features", "head_hidden_size", "hidden_size")  # what timm's models call this width


@dataclass(frozen=True)
class Plain:
    """A network as a change of another.

    Args:
        weights: its state dict, under the other's names.
        left_out: the paths of blocks that it does without.
        numbers: attributes of modules that differ, such as ``in_channels``, by the module's path.
        feature_channels: of the modules of timm's ``feature_info`` whose output is narrower.
    """

    weights: Mapping[str, Tensor]
    left_out: Sequence[str]
    numbers: Mapping[str, Mapping[str, int | list[int]]]
    feature_channels: Mapping[str, int]


def in_plain_values(network: nn.Module, original: nn.Module, input_shape: tuple[int, int, int]) -> Plain:
    """What ``network``, put together of parts of ``original``, is beside it.

    Args:
        original: on the meta device.
        input_shape: of an image that both take.
    """
    left_out = [path for path, module in network.named_modules() if isinstance(module, Skipped)]
    held = [path for path, module in network.named_modules() if isinstance(module, Held)]
    names = {f"{path}.value": path.removesuffix(HELD) for path in held}
    before = dict(numbers_of(original))
    numbers: dict[str, dict[str, int | list[int]]] = {}
    for number, value in numbers_of(network):
        path, attribute, _ = number
        if before.get(number, value) != value:
            whole = vars(network.get_submodule(path))[attribute]
            numbers.setdefault(path, {})[attribute] = whole if isinstance(whole, int) else list(whole)
    for path, attribute, width in _classifier_widths(network, original):
        numbers.setdefault(path, {})[attribute] = width
    weights = {
        names.get(name, name): tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()
    }
    return Plain(weights, left_out, numbers, _feature_channels(network, original, input_shape))


def _classifier_widths(network: nn.Module, original: nn.Module) -> Iterator[tuple[str, str, int]]:
    """Attributes of the modules that hold a narrower classifier, which say how wide a new one has to be."""
    known: Any = getattr(original, "pretrained_cfg", None) or {}
    classifiers = known.get("classifier") or ()
    for classifier in [classifiers] if isinstance(classifiers, str) else classifiers:
        before, after = original.get_submodule(classifier), network.get_submodule(classifier)
        if isinstance(before, nn.Linear) and isinstance(after, nn.Linear) and after.in_features != before.in_features:
            for end in ends(classifier):
                owner = vars(network.get_submodule(classifier[:end]))
                for attribute in _READ_BY_CLASSIFIER:
                    if owner.get(attribute) == before.in_features:
                        yield classifier[:end], attribute, after.in_features


def _feature_channels(network: nn.Module, original: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, int]:
    infos: Any = getattr(original, "feature_info", None)
    channels = {info["module"]: info["num_chs"] for info in infos or () if "module" in info}
    image = torch.empty(1, *input_shape, device="meta")
    before, after = (
        _output_shapes(copy.deepcopy(one).eval().to("meta"), image, channels) for one in (original, network)
    )
    found: dict[str, int] = {}
    for name, shape in before.items():
        for old, new in zip(shape, after.get(name, shape), strict=True):
            if old == channels[name] != new:
                found[name] = new
    return found


@torch.no_grad()
def _output_shapes(network: nn.Module, image: Tensor, names: Mapping[str, int]) -> dict[str, torch.Size]:
    """The shapes of what modules give, of those that exist and give one tensor."""
    shapes: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = output.shape

        return hook

    for name, module in network.named_modules():
        if name in names:
            module.register_forward_hook(note(name))
    network(image)
    return shapes
