"""Trained weights of an ordinary network, read from a file that never runs code."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.reading import begins_like_torch

log = logging.getLogger(__name__)

_REFUSED = re.compile(r"Unsupported globals?: (?:GLOBAL )?([\w.]*\w)")  # what torch says of objects in a file
Filter = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, a PyTorch file with a state dict, or a checkpoint of timm's ``train.py``: the
    averaged weights where it has such. Loading never runs code from the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    from timm.models import load_state_dict

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights {path}")
    timm_log = logging.getLogger("timm.models._helpers")
    level = timm_log.level
    timm_log.setLevel(logging.WARNING)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the arguments in checkpoints of train.py
            state: Any = load_state_dict(str(path), use_ema=True, device="cpu", weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # there is no end to the errors that a damaged file can cause
        if path.suffix != ".safetensors" and not begins_like_torch(path):
            raise ValueError(f"{path} is no file of weights: it does not begin as a PyTorch file does") from None
        if named := _REFUSED.search(str(error)):
            raise ValueError(
                f"{path} holds more than tensors and plain values, {named[1]}, which is not read, as that could run code; save "
                "the state dict alone: torch.save(network.state_dict(), file)"
            ) from None
        reason = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is no file of weights, or damaged: {reason[0][:200]}") from None
    finally:
        timm_log.setLevel(level)
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)] if state else ["nothing"]
    if others:
        raise ValueError(f"{path} holds no state dict: {few(others)} {'are' if len(others) > 1 else 'is'} no tensor")
    return {str(name): tensor for name, tensor in state.items()}


def load_weights_into(
    network: nn.Module, path: str | Path, classifiers: Sequence[str], convert: Filter | None = None
) -> list[str]:
    """Fills ``network`` with the weights of a file. A classifier for another number of classes starts at zero.

    Args:
        classifiers: names of the layers whose size is the number of classes.
        convert: turns the state dicts of other releases into the network's, for example to another size of images.

    Returns:
        The tensors that the file has none for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or the weights of another network; the message names the tensors that differ.
    """
    given = read_weights(path)
    wanted = network.state_dict()
    if convert is not None and not _fits(given, wanted):
        try:
            given = convert(given, network)
        except Exception:  # converters expect to know the file
            log.debug("the weights in %s are not converted", path, exc_info=True)
    fresh = [
        name
        for name in wanted
        if name.rpartition(".")[0] in classifiers and name in given and given[name].shape != wanted[name].shape
    ]
    for name in fresh:
        del given[name]
    missing = [name for name in wanted if name not in given and name not in fresh and not name.endswith(_COUNTER)]
    unknown = [name for name in given if name not in wanted]
    shapes = [name for name in given if name in wanted and given[name].shape != wanted[name].shape]
    differences = [
        f"it lacks {few(missing)}" if missing else "",
        f"it has {few(unknown)} besides" if unknown else "",
        f"{shapes[0]} is {tuple(given[shapes[0]].shape)}, not {tuple(wanted[shapes[0]].shape)}{_more(shapes)}"
        if shapes
        else "",
    ]
    if any(differences):
        raise ValueError(
            f"{path} holds the weights of another network than {type(network).__name__}: "
            f"{'; '.join(filter(None, differences))}"
        )
    broken = [name for name in given if given[name].is_floating_point() and not given[name].isfinite().all()]
    if broken:
        raise ValueError(f"{path} holds values that are not finite, in {few(broken)}")
    network.load_state_dict(given, strict=False)
    if fresh:
        start_at_zero(network, classifiers)
    return fresh


@torch.no_grad()
def start_at_zero(network: nn.Module, classifiers: Iterable[str]) -> None:
    """Sets classifiers to zero, so that their first gradients do not undo what the other layers have learned (Kolesnikov et al.,
    "Big Transfer", ECCV 2020); timm's own initial values give some networks of few classes a loss far above chance.
    """
    for name in classifiers:
        for tensor in network.get_submodule(name).parameters():
            tensor.zero_()


_COUNTER = "num_batches_tracked"  # earlier PyTorch did not write it


def last_linear(network: nn.Module, num_classes: int) -> list[str]:
    """The name of the last layer that makes as many channels as there are classes, or nothing."""
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.weight.shape[0] == num_classes
    ]
    return names[-1:]


def few(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more of other shapes" if len(names) > 1 else ""


def _fits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return all(name in given and given[name].shape == tensor.shape for name, tensor in wanted.items())
