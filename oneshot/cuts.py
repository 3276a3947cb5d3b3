"""All cuts of a subnet as one operation of autograd, whose gradients go straight into the parts that were cut."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.binding import Binding, Copied, Cut, filled
from oneshot.gradient_memory import GradientMemory
from oneshot.sharing import KernelTransform, Pieces, Region, SharingRule, centre, crop, leading_slice, part


@dataclass(frozen=True, slots=True)
class PartCut:
    """A binding of one part of a stored parameter, or of what a ``KernelTransform`` makes of one.

    Args:
        stored: the parameter, and where it lay when the view was taken.
        memory: of its gradient.
        region: the part.
        view: the part, outside of autograd.
        is_copied: whether a copy of it is bound.
        kernel: the rule, with its matrices, that makes something of it.
    """

    binding: Binding
    stored: nn.Parameter
    address: int
    memory: GradientMemory
    region: Region
    view: Tensor
    is_copied: bool
    kernel: tuple[KernelTransform, list[nn.Parameter]] | None

    def is_current(self) -> bool:
        """Whether the stored parameter is what and where it was."""
        stored = self.binding.source[self.binding.source_name]
        return stored is self.stored and stored.requires_grad and stored.data_ptr() == self.address

    def cut(self, sources: Mapping[Tensor, Tensor]) -> Tensor:
        """What is bound, of what stands for the stored parameter and the matrices; by autograd."""
        stored, cut, shape = sources[self.stored], self.binding.cut, self.binding.shape
        if self.kernel is None:
            assert cut is not None
            return cut(stored, shape)
        rule, matrices = self.kernel
        names = {matrix: name for name, matrix in rule.named_parameters()}
        values = {names[matrix]: sources[matrix] for matrix in matrices}
        cut_kernel: Tensor = torch.func.functional_call(rule, values, (stored, shape))
        return cut_kernel


def part_cut(binding: Binding, memories: dict[nn.Parameter, GradientMemory]) -> PartCut | None:
    """The binding as the cut of one part; None where it is something else. ``memories`` are those of all parameters so far."""
    stored, cut, shape = binding.source[binding.source_name], binding.cut, binding.shape
    if cut is None or not isinstance(stored, nn.Parameter) or not stored.requires_grad:
        return None
    region = _region(cut, stored.shape, shape)
    if region is None:
        return None
    kernel = None
    if isinstance(cut, KernelTransform) and cut.matrices(shape[-1]):
        kernel = cut, cut.matrices(shape[-1])
        if not all(matrix.requires_grad for matrix in kernel[1]):
            return None
    memory = memories.get(stored)
    if memory is None:
        memory = memories[stored] = GradientMemory(stored)
    view = part(stored.detach(), region)
    return PartCut(binding, stored, stored.data_ptr(), memory, region, view, shape[1:] != stored.shape[1:], kernel)


def _region(cut: Cut, stored: torch.Size, shape: torch.Size) -> Region | None:
    """What a cut reads, where that is known to be one part."""
    if isinstance(cut, Copied):
        cut = cut.cut
    if cut is leading_slice:
        return tuple((0, length) for length in shape)
    # Not isinstance: a subclass may cut as it likes.
    if cut is crop or type(cut) is SharingRule:
        return centre(stored, shape)
    return cut.region(stored, shape) if type(cut) in (KernelTransform, Pieces) else None  # type: ignore[attr-defined]


class Cuts:
    """What fills a subnet: the cuts of one part each, in one node of the graph, and the other bindings."""

    def __init__(self, cuts: Sequence[PartCut], others: list[Binding]) -> None:
        self.cuts, self.others = cuts, others
        self.sources: list[nn.Parameter] = []
        for cut in cuts:
            self.sources += [cut.stored, *(cut.kernel[1] if cut.kernel else ())]
        # Part of every graph, and never among the tensors of which somebody asks for gradients.
        self._asked = torch.zeros((), requires_grad=True)
        self._node = torch.autograd.graph.get_gradient_edge(self._asked).node

    def is_current(self) -> bool:
        """Whether the bank is what and where it was."""
        return all(cut.is_current() for cut in self.cuts)

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """As ``oneshot.binding.filled`` of all bindings."""
        with filled(self.others):
            values: tuple[Tensor, ...] = _CutAll.apply(self, self._asked, *self.sources)
            try:
                for cut, value in zip(self.cuts, values, strict=True):
                    cut.binding.target[cut.binding.name] = value
                del value, values
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
            and not any(source._backward_hooks or source._post_accumulate_grad_hooks for source in self.sources)
        )


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


class _CutAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cuts: Cuts, asked: Tensor, *sources: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        values, inputs = [], []
        for cut in cuts.cuts:
            if cut.kernel:
                value, given = cut.kernel[0].transformed(cut.view, cut.binding.shape[-1])
                inputs += given
            else:
                value = cut.view.clone() if cut.is_copied else cut.view.detach()
            values.append(value)
        ctx.cuts = cuts
        ctx.save_for_backward(*sources, *inputs)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        cuts: Cuts = ctx.cuts
        if not cuts.may_accumulate():
            return None, None, *_differentiate(cuts, ctx.saved_tensors, gradients)
        _accumulate(cuts, ctx.saved_tensors[len(cuts.sources) :], gradients)
        return (None,) * (2 + len(cuts.sources))


def _differentiate(cuts: Cuts, saved: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """The gradients of the stored tensors from those of what was cut, by autograd of the cuts one by one."""
    used = [(cut, given) for cut, given in zip(cuts.cuts, gradients, strict=True) if given is not None]
    if not used:
        return [None] * len(cuts.sources)
    with_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Of the same values, but without the hooks of the stored tensors, which are still to come.
        aliases = {source: source.view_as(source) for source in saved[: len(cuts.sources)]}
        values = [cut.cut(aliases) for cut, _ in used]
    given = [gradient.to(value.dtype) for (_, gradient), value in zip(used, values, strict=True)]
    asked = list(aliases.values())
    return torch.autograd.grad(values, asked, given, create_graph=with_graph, allow_unused=True)


def _accumulate(cuts: Cuts, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Adds the gradients of what was cut to those of the stored tensors."""
    stale: list[Tensor] = []
    written: list[GradientMemory] = []
    first: tuple[list[Tensor], list[Tensor]] = [], []
    further: tuple[list[Tensor], list[Tensor]] = [], []
    remaining = iter(inputs)
    for cut, gradient in zip(cuts.cuts, gradients, strict=True):
        given = [next(remaining) for _ in cut.kernel[1]] if cut.kernel else []
        if gradient is None:
            continue
        if cut.kernel:
            gradient, of_matrices = cut.kernel[0].gradients(gradient, given)
            for matrix, found in zip(cut.kernel[1], of_matrices, strict=True):
                matrix.grad = found if matrix.grad is None else matrix.grad.add_(found)
        if cut.stored.grad is None:
            place, before = cut.memory.start(cut.region)
            if before is not None:
                stale.append(before)
            written.append(cut.memory)
            places, values = first
        else:
            places, values = further
            own = cut.memory.further(cut.region)
            if own is None:  # such as that of a path that used the whole tensor
                place = part(cut.stored.grad, cut.region)
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
