"""Networks as graphs of calls, merged where several of them compute the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, fx, nn

from oneshot.arch import Arch
from oneshot.batch_norm import tracking_norms
from oneshot.evaluation.keeping import Uses
from oneshot.evaluation.nesting import leaves, replaced
from oneshot.spaces.skeleton import Block
from oneshot.supernet import Supernet


@dataclass(eq=False)
class Operation:
    """What a call runs: a block of the space, or a function of tensors outside of all blocks.

    Attributes:
        has_norms: whether the block holds statistics that recalibration sets.
        has_run: it was run, so that what follows is known.
        mutates: it was seen to change its inputs in place.
        aliases: it was seen to return memory of its inputs.
    """

    block: Block | None
    function: Callable[..., Any] | None
    has_norms: bool = False
    has_run: bool = False
    mutates: bool = False
    aliases: bool = False


@dataclass(eq=False)
class Node:
    """One call of the merged graph: equal operations on equal inputs are one node. The images have no operation.

    Attributes:
        args, kwargs: of the call, with nodes in place of what other calls return.
        inputs: those nodes, each once.
        number: in the order of discovery; equal graphs that are traced in the same order get equal numbers.
        uses: the candidates, by ascending position, in which a call that reads this one comes up for the first time.
        occurrences: the candidates that have it; noted where it has statistics.
    """

    operation: Operation | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Node, ...]
    number: int
    uses: list[int] = field(default_factory=list)
    occurrences: Uses = field(default_factory=Uses)


class Trace(NamedTuple):
    """The calls of one network.

    Attributes:
        nodes: in the order of execution, the images first.
        output: the one that returns the logits.
        unread: those on which the logits do not depend, unless they change what others read.
    """

    nodes: tuple[Node, ...]
    output: Node
    unread: frozenset[Node]


class MergedGraph:
    """The calls of many networks of a supernet, each of them once."""

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self._operations: dict[Hashable, Operation] = {}
        self._nodes: dict[Hashable, Node] = {}
        self._stand_ins: dict[Block, _StandIn] = {}
        self._modules: dict[Block, frozenset[int]] = {}

    def trace(self, arch: Arch) -> Trace | None:
        """The calls of ``arch``; None where they cannot be told, or its blocks cannot be run one at a time: the network's forward
        depends on values, reads parts of a block, or calls a block with BatchNorm statistics twice.
        """
        try:
            network, blocks = self._supernet.skeleton(arch, self._stand_in)
        except _Untraceable:
            return None
        modules = [self._modules[block] for block in blocks]
        if sum(map(len, modules)) > len(frozenset[int]().union(*modules)):
            return None  # blocks that hold parts of each other
        images = self._node(("images", self._supernet.space.input_shape(arch)), None, (), {})
        recorder = _Recorder(self, images)
        try:
            output = network.eval()(recorder.proxy(images))
        except Exception:  # whatever a user's forward makes of a value that is not there
            return None
        normed = [node.operation.block for node in recorder.nodes if node.operation and node.operation.has_norms]
        if not isinstance(output, fx.Proxy) or len(set(normed)) < len(normed):
            return None
        last: Any = output.node
        read = {last}
        for node in reversed(recorder.nodes):
            if node in read:
                read.update(node.inputs)
        return Trace(tuple(recorder.nodes), last, frozenset(recorder.nodes) - read)

    def call(self, called: Block | Callable[..., Any] | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Node:
        """The node of a call of a block, a function, or a method of the first argument."""
        operation = self._operations.get(called)
        if operation is None:
            if isinstance(called, Block):
                operation = Operation(called, None, has_norms=bool(tracking_norms(called.module)))
            else:
                operation = Operation(None, _method(called) if isinstance(called, str) else called)
            self._operations[called] = operation
        return self._node(called, operation, args, kwargs)

    def _node(
        self, called: Hashable, operation: Operation | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Node:
        key = (called, _key(args), _key(dict(kwargs)))
        node = self._nodes.get(key)
        if node is None:
            inputs = tuple(dict.fromkeys(item for item in leaves((args, kwargs)) if isinstance(item, Node)))
            node = self._nodes[key] = Node(operation, args, kwargs, inputs, len(self._nodes))
        return node

    def _stand_in(self, block: Block) -> _StandIn:
        if block not in self._stand_ins:
            self._modules[block] = frozenset(map(id, block.module.modules()))
            self._stand_ins[block] = _make_stand_in(block)
        return self._stand_ins[block]


def reads_what_changed(trace: Trace) -> bool:
    """Whether a call of ``trace`` changes its inputs in place and later calls read them, or memory that they share. The network
    itself would hand the changed values to those; calls on copies cannot.
    """
    if not any(node.operation and node.operation.mutates for node in trace.nodes):
        return False
    position = {node: index for index, node in enumerate(trace.nodes)}
    memory: dict[Node, frozenset[Node]] = {}
    for node in trace.nodes:
        shared = (memory[item] for item in node.inputs) if node.operation and node.operation.aliases else ()
        memory[node] = frozenset([node]).union(*shared)
    last_read = {item: position[node] for node in trace.nodes for item in node.inputs}
    last_read[trace.output] = len(trace.nodes)
    for index, node in enumerate(trace.nodes):
        if node.operation is None or not node.operation.mutates:
            continue
        changed = frozenset[Node]().union(*(memory[item] for item in node.inputs))
        if any(last_read.get(item, -1) > index and memory[item] & changed for item in trace.nodes[:index]):
            return True
    return False


class _Recorder(fx.proxy.TracerBase):
    """Turns what happens to the proxies of values into calls of the graph."""

    def __init__(self, graph: MergedGraph, images: Node) -> None:
        super().__init__()
        self.graph = fx.Graph()  # asked for names
        self._merged = graph
        self.nodes: dict[Node, None] = {images: None}

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *named: Any, **options: Any
    ) -> fx.Proxy:
        node = self._merged.call(target, replaced(args, _unwrapped), replaced(kwargs, _unwrapped))
        self.nodes.setdefault(node)
        return self.proxy(node)

    def proxy(self, node: Any) -> fx.Proxy:
        return fx.Proxy(node, self)


class _StandIn(nn.Module):
    """Takes a block's place in a skeleton: a subclass of the block's own class, with the block's attributes, that is recorded
    when it is called.
    """

    _block: Block

    def forward(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        recorder: Any = next(item.tracer for item in leaves((args, kwargs)) if isinstance(item, fx.Proxy))
        called: fx.Proxy = recorder.create_proxy("call_module", self._block, args, kwargs)
        return called

    def train(self, mode: bool = True) -> Self:
        return self  # its parts are the block's


def _make_stand_in(block: Block) -> _StandIn:
    if any(isinstance(part, _StandIn) for part in block.module.modules()):
        raise _Untraceable(f"{block.name} holds another block")
    if any(value for name, value in vars(block.module).items() if "hooks" in name):
        raise _Untraceable(f"{block.name} has hooks")
    kind = type(block.module)
    if kind.__call__ is not nn.Module.__call__:
        raise _Untraceable(f"{block.name} is called in a way of its own")
    try:
        stand_in: _StandIn = object.__new__(type(kind.__name__, (_StandIn, kind), {}))
    except TypeError as error:
        raise _Untraceable(f"{block.name} has a class without subclasses") from error
    vars(stand_in).update(vars(block.module), _block=block)
    return stand_in


class _Untraceable(Exception):
    """A network that cannot be followed from call to call."""


def _unwrapped(item: Any) -> Any:
    """A node in place of a value's proxy; of what else an argument may be, only what is known to be the same in every run."""
    if isinstance(item, fx.Proxy):
        return item.node
    if isinstance(item, (float, *_CONSTANTS)) or (isinstance(item, Tensor) and not item.is_meta):
        return item
    raise _Untraceable(f"an argument is {item!r}")


def _method(name: str) -> Callable[..., Any]:
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, name)(*args, **kwargs)

    return call


_CONSTANTS = (
    int,
    complex,
    str,
    type(None),
    type(...),
    torch.dtype,
    torch.device,
    torch.memory_format,
    torch.layout,
)


def _key(value: Any) -> Hashable:
    """Equal for arguments that no operation can tell apart."""
    if isinstance(value, Node):
        return value
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_key, value))
    if isinstance(value, dict):
        return (dict, *((name, _key(item)) for name, item in value.items()))
    if isinstance(value, slice):
        return (slice, _key(value.start), _key(value.stop), _key(value.step))
    if isinstance(value, (float, complex)):
        return (type(value), repr(value))  # zeros of two signs are equal
    if isinstance(value, Tensor):
        return _Identity(value)
    return (type(value), value)


class _Identity:
    """A key of one tensor, which lives as long as the key."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._tensor is other._tensor

    def __hash__(self) -> int:
        return id(self._tensor)
