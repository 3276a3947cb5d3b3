"""The supernet: a bank with the weights of all subnets, bound slice by slice into the skeleton of the one that runs."""

from __future__ import annotations

import contextlib
import fnmatch
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, OpenArch
from oneshot.batch_norm import Statistics, normalising
from oneshot.binding import Binding, copies_of, copy_module, default_cut, filled
from oneshot.cuts import RememberedCuts
from oneshot.mix import Mix
from oneshot.sharing import Pieces, SharingRule
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.making import check_untied
from oneshot.spaces.relaxed import RelaxedSkeleton
from oneshot.spaces.skeleton import Block, Skeletons
from oneshot.traits import Traits, forget, keepers_among, outside, traits_of
from oneshot.widening import copy_channels


class _Plan(NamedTuple):
    """A subnet's skeleton, its modules outside of blocks, how it is bound, its blocks, and the ``Traits`` of all its modules."""

    network: nn.Module
    frame: list[nn.Module]
    bindings: list[Binding]
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

    Attributes:
        is_elastic: whether networks share parts of tensors, as those of different widths do, and not whole blocks alone.

    Raises:
        ValueError: a network of the space has tensors that were not made through ``make``, or shapes that no rule can share.
    """

    _mixing: tuple[tuple[Choice, ...], int, RelaxedSkeleton, _Plan] | None

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.bank = nn.Module()
        self.is_elastic = False
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

    def forward(self, x: Tensor, arch: Arch | Mix, dropout: bool = True, statistics: Statistics = "tracked") -> Tensor:
        """Logits ``(batch, classes)`` of subnet ``arch``, or of a mix, for images ``(batch, channels, height, width)``.

        Args:
            dropout: without it, modules that drop values or paths at random do not, even in training.
            statistics: what batch normalisation goes by in training, see ``oneshot.batch_norm.normalising``.

        Raises:
            ValueError: ``arch`` is not an architecture of the space, or a mix does not fit it.
        """
        with self._bound(arch, dropout) as (network, _), normalising(network, statistics):
            logits: Tensor = network(x)
        return logits

    def may_crash(self, arch: Arch | Mix) -> bool:
        """Whether training subnet ``arch`` on a CPU needs care, see ``oneshot.convolutions``.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        return (
            self._relaxed(arch.partial_channels)[1].may_crash
            if isinstance(arch, Mix)
            else self._planned(arch).may_crash
        )

    def input_shape(self, arch: Arch | Mix) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the images that it takes, in pixels.

        Raises:
            OpenChoiceError: a mix of resolutions.
        """
        return self.space.input_shape(OpenArch(self.space.choices) if isinstance(arch, Mix) else arch)

    @torch.no_grad()
    def extract(self, arch: Arch | Mix) -> nn.Module:
        """The subnet as a plain module with copies of its inherited weights, in the supernet's mode, memory format and device; of
        a mix, the relaxed network with the options that weigh something.

        Raises:
            ValueError: ``arch`` is not an architecture of the space, or a mix does not fit it.
        """
        with self._prepared(arch) as (network, bindings):
            return copy_module(network, copies_of(bindings))

    @torch.no_grad()
    def widen(self, narrow: Mix, wide: Mix, generator: torch.Generator) -> int:
        """Gives the channels that ``wide`` runs and ``narrow`` does not copies of those that both do, see ``oneshot.widening``;
        returns how many tensors have some.
        """
        with self._bound(narrow) as (_, bindings):
            before = list(bindings)
        with self._bound(wide) as (_, bindings):
            return copy_channels(before, bindings, generator)

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
        forget(keepers_among(block.module.modules()), self.training)
        return copy_module(block.module, copies_of(bindings))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of every module. It also lets go of the memory that is kept for the gradients of the next step."""
        super().zero_grad(set_to_none)
        self._cuts.let_go()

    # The bank --------------------------------------------------------------------------------------------------------

    def _fill_bank(self, name: str, variants: list[Block]) -> None:
        shapes_of = {block: {path: tensor.shape for path, tensor in _tensors(block.module)} for block in variants}
        shapes: dict[str, torch.Size] = {}
        for held in shapes_of.values():
            for path, shape in held.items():
                seen = shapes.setdefault(path, shape)
                if len(seen) != len(shape):
                    raise ValueError(f"{name}.{path} is {tuple(seen)} in one network and {tuple(shape)} in another")
                self.is_elastic |= seen != shape
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
    def _bound(self, arch: Arch | Mix, dropout: bool = True) -> Iterator[tuple[nn.Module, list[Binding]]]:
        """The skeleton of ``arch`` with its tensors bound to the bank, in this module's mode, and how they are bound. Afterwards
        it lets go of what was cut, so that the memory is the caller's graph's alone.
        """
        with self._prepared(arch, dropout) as (network, bindings):
            cuts = None if isinstance(arch, Mix) else self._cuts.of(arch, bindings)
            with filled(bindings) if cuts is None else cuts.filled():
                yield network, bindings

    @contextlib.contextmanager
    def _prepared(self, arch: Arch | Mix, dropout: bool = True) -> Iterator[tuple[nn.Module, list[Binding]]]:
        """The skeleton of ``arch`` in this module's mode, and how its tensors are to be bound."""
        training = self.training
        if isinstance(arch, Mix):
            skeleton, plan = self._relaxed(arch.partial_channels)
            used, mixtures = skeleton.fill(arch)
            bindings = [binding for block in used for binding in self._bindings_of(block)]
            blocks = [block.module for block in used]
        else:
            plan, mixtures = self._planned(arch), []
            bindings, blocks = plan.bindings, plan.blocks
        if plan.network.training != training:
            for module in plan.frame:
                module.training = training
        for module in blocks:
            if module.training != training:
                module.train(training)
        forget(plan.keepers, training)
        for module in plan.droppers:
            module.training = training and dropout
        try:
            yield plan.network, bindings
        finally:
            for mixed in mixtures:
                mixed.blank()

    def _planned(self, arch: Arch) -> _Plan:
        plan = self._networks.get(arch)
        if plan is None:
            plan = self._networks[arch] = self._plan(arch)
            if len(self._networks) > _MAX_NETWORKS:
                self._cuts.forget(self._networks.popitem(last=False)[0])
        else:
            self._networks.move_to_end(arch)  # the largest network comes back at every step of a sandwich
        return plan

    def _relaxed(self, parts: int = 1) -> tuple[RelaxedSkeleton, _Plan]:
        """The skeleton of mixes over the options of the space as it is now, on one of so many parts of the channels."""
        if self._mixing is None or self._mixing[0] is not self.space.choices or self._mixing[1] != parts:
            skeleton = RelaxedSkeleton(self.space, self._skeletons, parts)
            network = skeleton.network
            modules = list(network.modules())
            plan = _Plan(network, modules, [], [], *traits_of(modules))
            self._mixing = self.space.choices, parts, skeleton, plan
        return self._mixing[2:]

    def _plan(self, arch: Arch) -> _Plan:
        self.space.validate(arch)
        network, used = self._skeletons.network(arch)
        bindings: list[Binding] = []
        for block in used:
            bindings += self._bindings_of(block)
        modules = [block.module for block in used]
        for module in modules:
            if module not in self._traits:
                self._traits[module] = traits_of(module.modules())
        frame = list(outside(network, set(modules)))
        traits = [traits_of(frame), *(self._traits[module] for module in modules)]
        droppers = [module for found in traits for module in found.droppers]
        keepers = [module for found in traits for module in found.keepers]
        return _Plan(network, frame, bindings, modules, droppers, keepers, any(found.may_crash for found in traits))

    def _bindings_of(self, block: Block) -> list[Binding]:
        if block in self._bindings:
            return self._bindings[block]
        bindings: list[Binding] = []
        for prefix, module in block.module.named_modules():
            path = ".".join(part for part in (block.name, prefix) if part)
            node: nn.Module | None = None
            for kind in ("_parameters", "_buffers"):
                target = getattr(module, kind)
                for local, tensor in target.items():
                    if tensor is None:
                        continue
                    key, shape = f"{path}.{local}" if path else local, tensor.shape
                    try:
                        if node is None:
                            node = self.bank.get_submodule(path)
                        source = getattr(node, kind)
                        stored = source[local]
                    except (AttributeError, KeyError):
                        raise ValueError(_NOT_COVERED.format(key=key, shape=tuple(shape))) from None
                    cut = None
                    if shape != stored.shape:
                        if any(want > have for want, have in zip(shape, stored.shape, strict=True)):
                            raise ValueError(_NOT_COVERED.format(key=key, shape=tuple(shape)))
                        cut = self._rules.get(key) or default_cut(module, stored, shape)
                    write = cut.write if isinstance(cut, Pieces) and kind == "_buffers" else None
                    bindings.append(Binding(target, local, tensor, source, local, cut, shape, write))
        self._bindings[block] = bindings
        return bindings

    def _reset_caches(self) -> None:
        self._skeletons = Skeletons(self.space)
        self._bindings: dict[Block, list[Binding]] = {}
        self._networks: OrderedDict[Arch, _Plan] = OrderedDict()
        self._traits: dict[nn.Module, Traits] = {}
        self._mixing = None
        self._cuts = RememberedCuts()

    def __getstate__(self) -> dict[str, Any]:
        caches = ("_skeletons", "_bindings", "_networks", "_traits", "_mixing", "_cuts")
        return {name: value for name, value in self.__dict__.items() if name not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._reset_caches()


_NOT_COVERED = (
    "the supernet holds no {key} of shape {shape}: no architecture of the space's covering() has it; override covering() so "
    "that together its architectures touch every parameter at its largest shape"
)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _check_made(network: nn.Module, used: list[Block]) -> None:
    check_untied(network, "a network of the space")
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
