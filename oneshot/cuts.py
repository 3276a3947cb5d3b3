"""All cuts of a subnet as one operation of autograd, whose gradients go straight into the parts that were cut."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.binding import Binding, Copied, Cut, filled
from oneshot.gradient_memory import GradientMemory, Part
from oneshot.sharing import (
    KernelTransform,
    Pieces,
    Region,
    SharingRule,
    centre,
    crop,
    leading_slice,
    part,
    transformed,
)


@dataclass(frozen=True, slots=True)
class PartCut:
    """A binding of one part of a stored parameter, or of what a ``KernelTransform`` makes of one.

    Args:
        stored: the parameter, and where it lay when the view was taken.
        memory: of its gradient.
        part: what is read, in the gradient.
        view: what is read, outside of autograd.
        is_copied: whether a copy of it is bound.
        rule: where something is made of it, what makes it.
    """

    binding: Binding
    stored: nn.Parameter
    address: int
    memory: GradientMemory
    part: Part
    view: Tensor
    is_copied: bool
    rule: KernelTransform | None

    def by_autograd(self, stored: Tensor, matrix: Tensor | None) -> Tensor:
        """What is bound, of what stands for the stored parameter and the rule's matrix."""
        read = part(stored, self.part.region)
        return read if matrix is None else transformed(read.reshape(-1, matrix.shape[1]), matrix, read)


def part_cut(binding: Binding, memories: dict[nn.Parameter, GradientMemory]) -> PartCut | None:
    """The binding as the cut of one part; None where it is something else. ``memories`` are those of all parameters so far."""
    stored, cut, shape = binding.source[binding.source_name], binding.cut, binding.shape
    if cut is None or not isinstance(stored, nn.Parameter) or not stored.requires_grad:
        return None
    rule = cut if isinstance(cut, KernelTransform) and cut.matrix(shape[-1]) is not None else None
    region = _region(cut, stored.shape, shape)
    if region is None:
        return None
    memory = memories.get(stored) or memories.setdefault(stored, GradientMemory(stored))
    view = part(stored.detach(), region)
    is_copied = shape[1:] != stored.shape[1:]
    return PartCut(binding, stored, stored.data_ptr(), memory, memory.part(region), view, is_copied, rule)


def _region(cut: Cut, stored: torch.Size, shape: torch.Size) -> Region | None:
    """What a cut reads, where that is known to be one part."""
    if isinstance(cut, Copied):
        cut = cut.cut
    if cut is leading_slice:
        return tuple((0, length) for length in shape)
    # Not isinstance: a subclass may cut as it likes.
    if cut is crop or type(cut) is SharingRule:
        return centre(stored, shape)
    if type(cut) is KernelTransform:
        return centre(stored, cut.reads(shape))
    return cut.region(stored, shape) if type(cut) is Pieces else None


class Cuts:
    """What fills a subnet: the cuts of one part each, in one node of the graph, and the other bindings."""

    def __init__(self, cuts: Sequence[PartCut], others: list[Binding]) -> None:
        self.cuts, self.others = cuts, others
        self._stored = [cut.stored for cut in cuts]
        self._places = [(cut.binding.source, cut.binding.source_name, cut.stored, cut.address) for cut in cuts]
        self._kernels = [(cut.rule, cut.binding.shape[-1]) for cut in cuts if cut.rule is not None]
        # Part of every graph, and never among the tensors of which somebody asks for gradients.
        self._asked = torch.zeros((), requires_grad=True)
        self._node = torch.autograd.graph.get_gradient_edge(self._asked).node

    def is_current(self) -> bool:
        """Whether the bank is what and where it was."""
        for source, name, stored, address in self._places:
            if source[name] is not stored or stored.data_ptr() != address or not stored.requires_grad:
                return False
        return True

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """As ``oneshot.binding.filled`` of all bindings."""
        matrices = [rule.matrix(size) for rule, size in self._kernels]
        with filled(self.others):
            values: tuple[Tensor, ...] = _CutAll.apply(self, self._asked, *self._stored, *matrices)
            try:
                for cut, value in zip(self.cuts, values, strict=True):
                    cut.binding.target[cut.binding.name] = value
                del value, values, matrices
                yield
            finally:
                for cut in self.cuts:
                    cut.binding.target[cut.binding.name] = cut.binding.blank

    def may_accumulate(self) -> bool:
        """Whether the backward pass that runs adds to ``grad`` of all parameters, in a way that nobody looks at: not where
        gradients are asked for, are to be differentiated, or have hooks.
        """
        return (
            not torch.is_grad_enabled()
            and torch._C._will_engine_execute_node(self._node)
            and not any(stored._backward_hooks or stored._post_accumulate_grad_hooks for stored in self._stored)
        )


class _CutAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cuts: Cuts, asked: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        matrices = tensors[len(cuts.cuts) :]
        remaining = iter(matrices)
        values, numbers, changed = [], [], []
        for cut in cuts.cuts:
            if cut.rule is not None:
                matrix = next(remaining)
                numbers.append(cut.view.reshape(-1, matrix.shape[1]))
                changed.append(cut.stored)
                values.append(transformed(numbers[-1], matrix, cut.view))
            else:
                values.append(cut.view.clone() if cut.is_copied else cut.view.detach())
        ctx.cuts, ctx.num_kernels = cuts, len(matrices)
        ctx.save_for_backward(*matrices, *numbers, *changed)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        matrices = ctx.saved_tensors[: ctx.num_kernels]
        if not ctx.cuts.may_accumulate():
            return None, None, *_differentiate(ctx.cuts.cuts, matrices, gradients)
        numbers = ctx.saved_tensors[ctx.num_kernels : 2 * ctx.num_kernels]
        of_matrices = _accumulate(ctx.cuts.cuts, matrices, numbers, gradients)
        return (*((None,) * (2 + len(ctx.cuts.cuts))), *of_matrices)


def _differentiate(
    cuts: Sequence[PartCut], matrices: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """The gradients of stored parameters and matrices from those of what was cut, by autograd of the cuts one by one."""
    if all(gradient is None for gradient in gradients):
        return [None] * (len(cuts) + len(matrices))
    with_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # The same values, but without the hooks of those, which are still to come.
        stored = [cut.stored.view_as(cut.stored) for cut in cuts]
        matrices = [matrix.view_as(matrix) for matrix in matrices]
        remaining = iter(matrices)
        values = [
            cut.by_autograd(source, None if cut.rule is None else next(remaining))
            for cut, source in zip(cuts, stored, strict=True)
        ]
    used = [
        (value, gradient.to(value.dtype))
        for value, gradient in zip(values, gradients, strict=True)
        if gradient is not None
    ]
    sources = [*stored, *matrices]
    asked = [source for source in sources if source.requires_grad]
    outputs, given = zip(*used, strict=True)
    found = iter(torch.autograd.grad(outputs, asked, given, create_graph=with_graph, allow_unused=True))
    return [next(found) if source.requires_grad else None for source in sources]


def _accumulate(
    cuts: Sequence[PartCut],
    matrices: Sequence[Tensor],
    numbers: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
) -> Sequence[Tensor | None]:
    """Adds the gradients of what was cut to those of the stored parameters; returns those of the matrices."""
    stale: list[Tensor] = []
    written: list[GradientMemory] = []
    first: tuple[list[Tensor], list[Tensor]] = [], []
    further: tuple[list[Tensor], list[Tensor]] = [], []
    of_matrices: list[Tensor | None] = []
    for cut, gradient in zip(cuts, gradients, strict=True):
        if cut.rule is not None:
            kernel = len(of_matrices)
            of_matrices.append(None)
            if gradient is not None:
                flat = gradient.reshape(-1, len(matrices[kernel])).to(numbers[kernel].dtype)
                of_matrices[kernel] = (flat.t() @ numbers[kernel]).to(matrices[kernel].dtype)
                gradient = (flat @ matrices[kernel].to(flat.dtype)).view(cut.view.shape)
        if gradient is None:
            continue
        if cut.stored.grad is None:
            place, before = cut.memory.start(cut.part)
            if before is not None:
                stale.append(before)
            written.append(cut.memory)
            places, values = first
        else:
            places, values = further
            own = cut.memory.further(cut.part)
            if own is None:  # such as that of a path that used the whole tensor
                place = part(cut.stored.grad, cut.part.region)
            else:
                place = own
                written.append(cut.memory)
        places.append(place)
        values.append(gradient)
    if stale:
        torch._foreach_zero_(stale)
    if first[0]:
        torch._foreach_copy_(*first)
    if further[0]:
        torch._foreach_add_(*further)
    for memory in written:
        memory.written()
    return of_matrices


class RememberedCuts:
    """The cuts of networks that were bound before, for as long as the bank is what and where it was."""

    def __init__(self) -> None:
        self._of_network: dict[Hashable, Cuts] = {}
        self._of_binding: dict[int, PartCut | None] = {}
        self._memories: dict[nn.Parameter, GradientMemory] = {}

    def of(self, network: Hashable, bindings: Sequence[Binding]) -> Cuts | None:
        """How to fill a network with these bindings in one operation; None where that cannot be: outside of training, and inside
        the transforms of ``torch.func``.
        """
        if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return None
        cuts = self._of_network.get(network) or self._made(bindings)
        if not cuts.is_current():
            for known in (self._of_network, self._of_binding, self._memories):
                known.clear()
            cuts = self._made(bindings)
        self._of_network[network] = cuts
        return cuts if cuts.cuts else None

    def _made(self, bindings: Sequence[Binding]) -> Cuts:
        cuts, others = dict[nn.Parameter, PartCut](), []
        for binding in bindings:
            if id(binding) not in self._of_binding:
                self._of_binding[id(binding)] = part_cut(binding, self._memories)
            cut = self._of_binding[id(binding)]
            if cut is None or cut.stored in cuts:
                others.append(binding)
            else:
                cuts[cut.stored] = cut
        return Cuts(list(cuts.values()), others)

    def forget(self, network: Hashable) -> None:
        """Remembers a network no longer."""
        self._of_network.pop(network, None)

    def let_go(self) -> None:
        """Gives the memory of gradients back, which the next step takes anew."""
        for memory in self._memories.values():
            memory.let_go()
