"""The supernet: a bank with the weights of all subnets, bound slice by slice into the skeleton of the one that runs."""

from __future__ import annotations

import copy
import fnmatch
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.sharing import SharingRule, crop
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Block, Skeletons

# What one tensor of a skeleton is filled with: (the dictionary and the name to fill, the dictionary and the name in the bank,
# what cuts it or None where the whole tensor is taken, the shape wanted).
_Cut = Callable[[Tensor, torch.Size], Tensor]
_Binding = tuple[dict[str, Any], str, dict[str, Any], str, _Cut | None, torch.Size]

_MAX_NETWORKS = 512


class Supernet(nn.Module):
    """Shared weights for every network of a search space.

    The bank is the union of the tensors of all subnets, each at its largest shape, under the names that the space gave its
    blocks (``bank.stage1.block2.conv_dw.weight``). ``supernet(x, arch)`` runs a subnet on slices of the bank: gradients and
    BatchNorm statistics reach exactly the tensors of that path. Nothing is set and then called; calls may alternate between
    architectures freely.

    Raises:
        ValueError: a network of the space has tensors that were not made through ``make``, or shapes that no rule can share.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.bank = nn.Module()
        self._rules: dict[str, SharingRule] = {}
        self._reset_caches()
        blocks: dict[str, dict[Block, None]] = {}
        for arch in space.covering():
            network, used = self._skeletons.network(arch)
            _check_made(network, used)
            for block in used:
                blocks.setdefault(block.name, {})[block] = None
        for name, variants in blocks.items():
            self._fill_bank(name, list(variants))

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Logits ``(batch, classes)`` of subnet ``arch`` for images ``(batch, channels, height, width)``.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        logits: Tensor = self._bind(arch)(x)
        return logits

    @torch.no_grad()
    def extract(self, arch: Arch) -> nn.Module:
        """The subnet as a plain module with copies of its inherited weights, in the supernet's mode and on its device.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        network = self._bind(arch)
        copies: dict[int, Any] = {}
        for target, name, source, source_name, *_ in self._networks[arch][1]:
            copied = target[name].detach().clone(memory_format=torch.contiguous_format)
            stored = source[source_name]
            is_parameter = isinstance(stored, nn.Parameter)
            copies[id(target[name])] = nn.Parameter(copied, stored.requires_grad) if is_parameter else copied
        return _copy_module(network, copies)

    # The bank --------------------------------------------------------------------------------------------------------

    def _fill_bank(self, name: str, variants: list[Block]) -> None:
        shapes: dict[str, torch.Size] = {}
        for block in variants:
            for path, tensor in _tensors(block.module):
                seen = shapes.setdefault(path, tensor.shape)
                if len(seen) != len(tensor.shape):
                    raise ValueError(
                        f"{name}.{path} is {tuple(seen)} in one network and {tuple(tensor.shape)} in another"
                    )
                shapes[path] = torch.Size(max(pair) for pair in zip(seen, tensor.shape, strict=True))
        made: dict[Block, nn.Module] = {}
        for path, shape in shapes.items():
            holder = next(
                (block for block in variants if dict(_tensors(block.module)).get(path, _NOTHING).shape == shape), None
            )
            if holder is None:
                tensor = _enlarged(variants, path, shape, name)
            else:
                if holder not in made:
                    made[holder] = holder.construct()
                    self.space.initialize(name, made[holder])
                tensor = dict(_tensors(made[holder]))[path]
            self._store(f"{name}.{path}", tensor.detach().clone(), isinstance(tensor, nn.Parameter))

    def _store(self, key: str, tensor: Tensor, is_parameter: bool) -> None:
        *parents, local = key.split(".")
        node = self.bank
        for part in parents:
            if part not in node._modules:
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        if not is_parameter:
            node.register_buffer(local, tensor)
            return
        node.register_parameter(local, nn.Parameter(tensor))
        for pattern, factory in self.space.sharing.items():
            if fnmatch.fnmatchcase(key, pattern):
                rule = self._rules[key] = factory()
                rule.prepare(tensor.shape, key)
                if any(True for _ in rule.parameters()):
                    node.add_module(f"{local}_rule", rule)
                break

    def _stored(self, key: str) -> Tensor:
        parent, _, local = key.rpartition(".")
        tensor: Tensor = getattr(self.bank.get_submodule(parent), local)
        return tensor

    # Binding ---------------------------------------------------------------------------------------------------------

    def _bind(self, arch: Arch) -> nn.Module:
        """The skeleton of ``arch`` with its tensors bound to the bank, in this module's mode."""
        entry = self._networks.get(arch)
        if entry is None:
            entry = self._networks[arch] = self._plan(arch)
            if len(self._networks) > _MAX_NETWORKS:
                self._networks.popitem(last=False)
        network, bindings, blocks = entry
        for target, name, source, source_name, cut, shape in bindings:
            stored = source[source_name]
            target[name] = stored if cut is None else cut(stored, shape)
        training = self.training
        if network.training != training:
            network.train(training)
        for module in blocks:
            if module.training != training:
                module.train(training)
        return network

    def _plan(self, arch: Arch) -> tuple[nn.Module, list[_Binding], list[nn.Module]]:
        self.space.validate(arch)
        network, used = self._skeletons.network(arch)
        bindings: list[_Binding] = []
        for block in dict.fromkeys(used):
            if block not in self._bindings:
                self._bindings[block] = self._bindings_of(block)
            bindings += self._bindings[block]
        return network, bindings, [block.module for block in dict.fromkeys(used)]

    def _bindings_of(self, block: Block) -> list[_Binding]:
        bindings: list[_Binding] = []
        for prefix, module in block.module.named_modules():
            for kind in ("_parameters", "_buffers"):
                target = getattr(module, kind)
                for local, tensor in target.items():
                    if tensor is None:
                        continue
                    key = ".".join(part for part in (block.name, prefix, local) if part)
                    try:
                        node = self.bank.get_submodule(key.rpartition(".")[0])
                        stored = getattr(node, kind)[local]
                    except (AttributeError, KeyError):
                        raise ValueError(_NOT_COVERED.format(key=key, shape=tuple(tensor.shape))) from None
                    if any(want > have for want, have in zip(tensor.shape, stored.shape, strict=True)):
                        raise ValueError(_NOT_COVERED.format(key=key, shape=tuple(tensor.shape)))
                    cut = None if tensor.shape == stored.shape else self._rules.get(key) or _cut(stored, tensor.shape)
                    bindings.append((target, local, getattr(node, kind), local, cut, tensor.shape))
        return bindings

    def _reset_caches(self) -> None:
        self._skeletons = Skeletons(self.space)
        self._bindings: dict[Block, list[_Binding]] = {}
        self._networks: OrderedDict[Arch, tuple[nn.Module, list[_Binding], list[nn.Module]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in ("_skeletons", "_bindings", "_networks")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._reset_caches()


_NOTHING = torch.empty((), device="meta")
_NOT_COVERED = (
    "the supernet holds no {key} of shape {shape}: no architecture of the space's covering() has it; override covering() so "
    "that together its architectures touch every parameter at its largest shape"
)


def _cut(stored: Tensor, shape: torch.Size) -> _Cut:
    """How a tensor without a rule is cut: statistics stay views, so that updates reach the bank."""
    is_dense = shape[1:] == stored.shape[1:]
    return crop if is_dense or not isinstance(stored, nn.Parameter) else _dense_crop


def _dense_crop(stored: Tensor, shape: torch.Size) -> Tensor:
    """A copy of the slice: convolutions and matrix products would make one themselves, in forward and again in backward."""
    return crop(stored, shape).clone()


def _copy_module(module: nn.Module, copies: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module whose tensors are already copied, several times faster: ``copies`` is its memo, by ``id``."""
    made = copies.get(id(module))
    if made is not None:
        return made  # type: ignore[no-any-return]
    clone = copies[id(module)] = module.__class__.__new__(module.__class__)
    state = clone.__dict__
    for name, value in module.__dict__.items():
        if name == "_modules":
            state[name] = {key: child and _copy_module(child, copies) for key, child in value.items()}
        elif name in ("_parameters", "_buffers"):
            state[name] = {key: None if tensor is None else copies[id(tensor)] for key, tensor in value.items()}
        elif isinstance(value, (str, int, float, type(None), tuple, torch.dtype)):
            state[name] = value
        elif isinstance(value, (dict, set, list)) and not value:
            state[name] = value.copy()
        else:
            state[name] = copy.deepcopy(value, copies)
    return clone


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _check_made(network: nn.Module, used: list[Block]) -> None:
    made = {id(tensor) for block in used for _, tensor in _tensors(block.module)}
    for name, tensor in _tensors(network):
        if id(tensor) not in made:
            raise ValueError(f"{name} was not made through make(name, block, ...), so no other network could share it")


def _enlarged(variants: list[Block], path: str, shape: torch.Size, name: str) -> Tensor:
    """Initial values of a tensor that no single block holds at its largest shape: its module's own initialisation, redone."""
    prefix, _, local = path.rpartition(".")
    block = next(block for block in variants if path in dict(_tensors(block.module)))
    leaf = block.construct().get_submodule(prefix)
    reset = getattr(leaf, "reset_parameters", None)
    if not callable(reset):
        raise ValueError(
            f"no single architecture has {name}.{path} at its largest shape {tuple(shape)}, and {type(leaf).__name__} has no "
            "reset_parameters() to initialise one of that shape"
        )
    if local in leaf._parameters:
        leaf._parameters[local] = nn.Parameter(torch.empty(shape))
    else:
        leaf._buffers[local] = torch.empty(shape)
    reset()
    tensor: Tensor = getattr(leaf, local)
    return tensor
