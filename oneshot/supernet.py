"""The supernet: a bank with the weights of all subnets, bound slice by slice into the skeleton of the one that runs."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.convolutions import may_crash
from oneshot.sharing import Pieces, SharingRule, crop, leading_slice
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Block, Skeletons

_Cut = Callable[[Tensor, torch.Size], Tensor]


class _Binding(NamedTuple):
    """What one tensor of a skeleton is filled with: ``source[source_name]``, cut to ``shape`` unless it is taken whole; and
    what puts changed statistics back that are no view.
    """

    target: dict[str, Any]
    name: str
    blank: Tensor
    source: dict[str, Any]
    source_name: str
    cut: _Cut | None
    shape: torch.Size
    write: Callable[[Tensor, Tensor], None] | None = None


class _Plan(NamedTuple):
    """A subnet's skeleton, how it is bound, its blocks, those of its modules that drop values or paths at random, those that keep
    things between calls, and whether training it needs care, see ``may_crash``.
    """

    network: nn.Module
    bindings: list[_Binding]
    blocks: list[nn.Module]
    droppers: list[nn.Module]
    keepers: list[nn.Module]
    may_crash: bool


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

    def forward(self, x: Tensor, arch: Arch, dropout: bool = True) -> Tensor:
        """Logits ``(batch, classes)`` of subnet ``arch`` for images ``(batch, channels, height, width)``. Without ``dropout``,
        modules that drop values or paths at random do not, even in training.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        with self._bound(arch, dropout) as (network, _):
            logits: Tensor = network(x)
        return logits

    def may_crash(self, arch: Arch) -> bool:
        """Whether training subnet ``arch`` on a CPU needs care, see ``oneshot.convolutions``.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        return self._planned(arch).may_crash

    @torch.no_grad()
    def extract(self, arch: Arch) -> nn.Module:
        """The subnet as a plain module with copies of its inherited weights, in the supernet's mode, memory format and device.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        with self._bound(arch) as (network, bindings):
            return _copy_module(network, _copies(bindings))

    @torch.no_grad()
    def take_statistics(self, arch: Arch, network: nn.Module) -> None:
        """Puts the running statistics, and whatever else buffers hold, of ``network``, a subnet ``arch`` that was extracted, into
        the bank.
        """
        with self._bound(arch) as (bound, _):
            for mine, theirs in zip(bound.buffers(), network.buffers(), strict=True):
                mine.copy_(theirs)

    def skeleton(self, arch: Arch, wrap: Callable[[Block], nn.Module]) -> tuple[nn.Module, list[Block]]:
        """The network of ``arch`` with what ``wrap`` makes of its weightless blocks in their places, and the blocks."""
        return self._skeletons.network(arch, wrap)

    @torch.no_grad()
    def extract_block(self, block: Block) -> nn.Module:
        """One block of a skeleton as a plain module, with the weights and the mode that it has in an extracted subnet."""
        bindings = self._bindings_of(block)
        block.module.train(self.training)
        _forget(_keepers(block.module), self.training)
        with _filled(bindings):
            return _copy_module(block.module, _copies(bindings))

    # The bank --------------------------------------------------------------------------------------------------------

    def _fill_bank(self, name: str, variants: list[Block]) -> None:
        shapes_of = {block: {path: tensor.shape for path, tensor in _tensors(block.module)} for block in variants}
        shapes: dict[str, torch.Size] = {}
        for held in shapes_of.values():
            for path, shape in held.items():
                seen = shapes.setdefault(path, shape)
                if len(seen) != len(shape):
                    raise ValueError(f"{name}.{path} is {tuple(seen)} in one network and {tuple(shape)} in another")
                shapes[path] = torch.Size(max(pair) for pair in zip(seen, shape, strict=True))
        made: dict[Block, dict[str, Tensor]] = {}
        for path, shape in shapes.items():
            holder = next((block for block, held in shapes_of.items() if held.get(path) == shape), None)
            if holder is None:
                smaller = next(block for block, held in shapes_of.items() if path in held)
                self._store(f"{name}.{path}", _enlarged(self.space, smaller, path, shape))
                continue
            if holder not in made:
                module = holder.construct()
                self.space.initialize(name, module)
                made[holder] = dict(_tensors(module))
            self._store(f"{name}.{path}", made[holder][path])

    def _store(self, key: str, tensor: Tensor) -> None:
        *parents, local = key.split(".")
        node = self.bank
        for part in parents:
            if part not in node._modules:
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        stored = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            node.register_parameter(local, nn.Parameter(stored, tensor.requires_grad))
        else:
            node.register_buffer(local, stored)
        for pattern, factory in self.space.sharing.items():
            if fnmatch.fnmatchcase(key, pattern):
                rule = factory()
                if not isinstance(tensor, nn.Parameter) and not isinstance(rule, Pieces):
                    break
                self._rules[key] = rule
                rule.prepare(tensor.shape, key)
                if any(True for _ in _tensors(rule)):
                    node.add_module(f"{local}_rule", rule)
                break

    # Binding ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _bound(self, arch: Arch, dropout: bool = True) -> Iterator[tuple[nn.Module, list[_Binding]]]:
        """The skeleton of ``arch`` with its tensors bound to the bank, in this module's mode, and how they are bound. Afterwards
        it lets go of what was cut, so that the memory is the caller's graph's alone.
        """
        network, bindings, blocks, droppers, keepers, _ = self._planned(arch)
        training = self.training
        if network.training != training:
            network.train(training)
        for module in blocks:
            if module.training != training:
                module.train(training)
        _forget(keepers, training)
        for module in droppers:
            module.training = training and dropout
        with _filled(bindings):
            yield network, bindings

    def _planned(self, arch: Arch) -> _Plan:
        plan = self._networks.get(arch)
        if plan is None:
            plan = self._networks[arch] = self._plan(arch)
            if len(self._networks) > _MAX_NETWORKS:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(arch)  # the largest network comes back at every step of a sandwich
        return plan

    def _plan(self, arch: Arch) -> _Plan:
        self.space.validate(arch)
        network, used = self._skeletons.network(arch)
        bindings: list[_Binding] = []
        for block in used:
            bindings += self._bindings_of(block)
        droppers = [module for module in network.modules() if _drops(module)]
        used_modules = [block.module for block in used]
        return _Plan(network, bindings, used_modules, droppers, _keepers(network), may_crash(network))

    def _bindings_of(self, block: Block) -> list[_Binding]:
        if block in self._bindings:
            return self._bindings[block]
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
                    cut = (
                        None
                        if tensor.shape == stored.shape
                        else self._rules.get(key) or _default_cut(module, stored, tensor.shape)
                    )
                    write = cut.write if isinstance(cut, Pieces) and kind == "_buffers" else None
                    source = getattr(node, kind)
                    bindings.append(_Binding(target, local, tensor, source, local, cut, tensor.shape, write))
        self._bindings[block] = bindings
        return bindings

    def _reset_caches(self) -> None:
        self._skeletons = Skeletons(self.space)
        self._bindings: dict[Block, list[_Binding]] = {}
        self._networks: OrderedDict[Arch, _Plan] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in ("_skeletons", "_bindings", "_networks")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._reset_caches()


_NOT_COVERED = (
    "the supernet holds no {key} of shape {shape}: no architecture of the space's covering() has it; override covering() so "
    "that together its architectures touch every parameter at its largest shape"
)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _default_cut(module: nn.Module, stored: Tensor, shape: torch.Size) -> _Cut:
    """How a tensor of ``module`` is cut where the space names no rule."""
    cut = crop if isinstance(module, _CONVOLUTIONS) else leading_slice
    is_dense = shape[1:] == stored.shape[1:]
    # Statistics stay views, so that updates reach the bank.
    return cut if is_dense or not isinstance(stored, nn.Parameter) else functools.partial(_copied, cut)


def _copied(cut: _Cut, stored: Tensor, shape: torch.Size) -> Tensor:
    """A copy of the slice: convolutions and matrix products would make one themselves, in forward and again in backward."""
    return cut(stored, shape).clone()


def _drops(module: nn.Module) -> bool:
    """Whether it is a dropout of torch, or drops paths: timm's ``DropPath``, torchvision's ``StochasticDepth``."""
    return isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in ("DropPath", "StochasticDepth")


def _keepers(network: nn.Module) -> list[nn.Module]:
    """The modules that do something of their own when their mode is set: some of timm's attention layers keep what they made of
    their weights from one call in eval mode to the next, until they are set to training.
    """
    return [module for module in network.modules() if type(module).train is not nn.Module.train]


def _forget(keepers: list[nn.Module], training: bool) -> None:
    """Makes modules forget what they keep, because the bank's weights may have changed."""
    for module in keepers:
        module.train(True)
        module.train(training)


@contextlib.contextmanager
def _filled(bindings: list[_Binding]) -> Iterator[None]:
    """Fills the tensors of skeletons from the bank, and afterwards takes out what was cut."""
    try:
        for target, name, _, source, source_name, cut, shape, _ in bindings:
            stored = source[source_name]
            target[name] = stored if cut is None else cut(stored, shape)
        yield
    finally:
        for target, name, blank, source, source_name, cut, _, write in bindings:
            if write is not None and target[name] is not blank:
                write(source[source_name], target[name])
            if cut is not None:
                target[name] = blank


def _copies(bindings: list[_Binding]) -> dict[int, Any]:
    """Copies of the tensors that are bound, by ``id``."""
    copies: dict[int, Any] = {}
    for binding in bindings:
        bound, stored = binding.target[binding.name], binding.source[binding.source_name]
        copied = bound.detach().clone()
        is_parameter = isinstance(stored, nn.Parameter)
        copies[id(bound)] = nn.Parameter(copied, stored.requires_grad) if is_parameter else copied
    return copies


_IMMUTABLE = frozenset({bool, int, float, str, type(None), torch.dtype})


def _copy_module(module: nn.Module, copies: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module whose tensors are already copied, several times faster: ``copies`` is its memo, by ``id``."""
    made = copies.get(id(module))
    if made is not None:
        return made  # type: ignore[no-any-return]
    if hasattr(module.__class__, "__deepcopy__"):
        return copy.deepcopy(module, copies)
    clone = copies[id(module)] = module.__class__.__new__(module.__class__)
    state = clone.__dict__
    state.update(module.__dict__)
    for name, value in module.__dict__.items():
        kind = value.__class__
        if kind in _IMMUTABLE:
            continue
        if name == "_modules":
            state[name] = {key: child and _copy_module(child, copies) for key, child in value.items()}
        elif name in ("_parameters", "_buffers"):
            state[name] = {key: None if tensor is None else copies[id(tensor)] for key, tensor in value.items()}
        elif kind in (dict, OrderedDict, set, list) and not value:
            state[name] = kind()
        elif not (kind is tuple and all(item.__class__ in _IMMUTABLE for item in value)):
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


def _enlarged(space: SearchSpace, block: Block, path: str, shape: torch.Size) -> Tensor:
    """Initial values of a tensor that no single block holds at its largest shape: its module's own initialisation, redone."""
    prefix, _, local = path.rpartition(".")
    module = block.construct()
    leaf = module.get_submodule(prefix)
    reset = getattr(leaf, "reset_parameters", None)
    if not callable(reset):
        raise ValueError(
            f"no single architecture has {block.name}.{path} at its largest shape {tuple(shape)}, and {type(leaf).__name__} "
            "has no reset_parameters() to initialise one of that shape"
        )
    if local in leaf._parameters:
        leaf._parameters[local] = nn.Parameter(torch.empty(shape))
    else:
        leaf._buffers[local] = torch.empty(shape)
    reset()
    space.initialize(block.name, module)
    tensor: Tensor = getattr(leaf, local)
    return tensor
