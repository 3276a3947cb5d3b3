"""Subnets with repaired weights, one by one and many at once."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.evaluation.batches import Batches
from oneshot.evaluation.keeping import Store, Uses
from oneshot.evaluation.merging import MergedGraph, Node, Trace, reads_what_changed
from oneshot.evaluation.nesting import leaves
from oneshot.evaluation.recalibration import chunks, recalibrate
from oneshot.evaluation.reference import Reference
from oneshot.evaluation.refit import TooFewPlacesError
from oneshot.evaluation.repair import RepairSettings, readers_of, repair_block
from oneshot.evaluation.score import Score
from oneshot.evaluation.shared import CALIBRATION, Candidate, ChangedInputError, Feed, SharedEvaluation
from oneshot.evaluation.unrepaired import RepairTally
from oneshot.spaces.skeleton import Block
from oneshot.supernet import Supernet

WORKING_BYTES = 2**29
"""May be kept of what the images become on their way through one network, and as many of what the largest network gives."""
_CHUNK_PIXELS = 2**20
_REMEMBERED_BYTES = 2**28  # of repaired weights
_REPAIRED = "repaired"

Readers = Mapping[str, Tensor | None]
Repaired = Mapping[str, Tensor]
"""Tensors of a block by name."""


class Original:
    """The largest network of a supernet at one resolution: what others are repaired towards.

    Args:
        images: what layers are fitted on.
        with_arguments: whether ``reference`` keeps what blocks are called with, too.
        tally: is told what became of each layer.

    Attributes:
        supernet: what narrow networks are cut from: the one given, or where statistics are measured, one with the same parameters
            that has those of the largest network.
        arch: the largest network's architecture.
        network: that network, in eval mode.
        blocks: its blocks by name.
        paths: where they lie in it.
        reference: what its readers give.

    Raises:
        ValueError: the statistics are measured, and there are no images.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: Batches,
        resolution: int,
        settings: RepairSettings,
        with_arguments: bool = False,
        tally: RepairTally | None = None,
    ) -> None:
        self.resolution, self._images = resolution, images
        self.arch = largest_at(supernet, resolution)
        self.network = supernet.extract(self.arch).eval()
        self.supernet = supernet
        if settings.measure_statistics:
            recalibrate(self.network, self.chunks())
            self.supernet = copy.deepcopy(supernet, {id(tensor): tensor for tensor in supernet.parameters()})
            self.supernet.take_statistics(self.arch, self.network)
        skeleton, blocks = self.supernet.skeleton(self.arch, lambda block: block.module)
        self.blocks, self.paths = {block.name: block for block in blocks}, paths_of(skeleton, blocks)
        self.reference = Reference(
            self.network, self.paths, self.chunks, len(images.images), WORKING_BYTES, with_arguments
        )
        self._remembered: OrderedDict[Arch, Mapping[Block, Repaired]] = OrderedDict()
        self._readers: dict[Block, Readers] = {}
        self._tally = RepairTally() if tally is None else tally
        self._too_few: set[tuple[Block, str]] = set()  # readers with too few places in the images

    def chunks(self) -> Iterator[Tensor]:
        """The images."""
        return chunks((batch for batch, _ in self._images.at(self.resolution)), _CHUNK_PIXELS)

    def readers(self, block: Block) -> Readers:
        """The readers of a block of another network that can be repaired.

        Raises:
            ValueError: the largest network has no such block.
        """
        if block not in self._readers:
            if block.name not in self.blocks:
                raise ValueError(
                    f"weights are repaired towards those of the largest network, which has no {block.name}: set "
                    f"evaluation.repair=false, because networks of {type(self.supernet.space).__name__} differ in more than size"
                )
            found = readers_of(self.supernet.space, block, self.blocks[block.name])
            self._readers[block] = found
            self.reference.need(block.name, found)
        return self._readers[block]

    def recall(self, arch: Arch) -> Mapping[Block, Repaired] | None:
        """The repaired weights of a network that was repaired a while ago."""
        return self._remembered.get(arch)

    def remember(self, arch: Arch, found: Mapping[Block, Repaired]) -> None:
        """Keeps the repaired weights of a network, because the best are asked for again, in place of those kept longest."""
        self._remembered[arch] = found
        while len(self._remembered) > 1 and sum(map(_bytes_of, self._remembered.values())) > _REMEMBERED_BYTES:
            self._remembered.popitem(last=False)

    def too_few_places(self, found: Mapping[Block, Repaired]) -> tuple[int, int]:
        """How many layers of a repaired network were left as they are for lack of images, and how many were to be repaired."""
        layers = [(block, reader) for block in found for reader in self.readers(block)]
        return sum(layer in self._too_few for layer in layers), len(layers)

    def repair(self, module: nn.Module, block: Block, calls: Callable[[], Iterator[Callable[[], object]]]) -> Repaired:
        """Repairs the weights of a block's module in place; returns those that may have changed."""
        readers = self.readers(block)
        left = repair_block(module, readers, self.reference.of(block.name), self.reference.places, calls)
        self._tally.add(block.name, readers, left)
        self._too_few.update((block, name) for name, error in left.items() if isinstance(error, TooFewPlacesError))
        fitted = [reader for reader in readers if reader not in left]
        return {
            name: tensor.detach().clone()
            for name, tensor in module.named_parameters()
            if name.rpartition(".")[0] in fitted
        }


class RepairedEvaluation(SharedEvaluation):
    """Scores candidates with repaired weights as ``one_by_one`` does, bit for bit; what several have in common, fits among it, is
    done once.
    """

    def __init__(
        self,
        original: Original,
        held_out: Batches,
        one_by_one: Callable[[Arch], Score],
        limit: int,
    ) -> None:
        super().__init__(original.supernet, None, held_out, one_by_one, limit)
        self.original = original
        self._whole: Trace | None = None
        self._feed = Feed(lambda: ((chunk, None) for chunk in original.chunks()))

    def graph(self) -> MergedGraph:
        """A graph that holds the largest network."""
        graph = super().graph()
        self._whole = graph.trace(self.original.arch)
        return graph

    def candidate(self, trace: Trace, weights: dict[Block, Uses], position: int) -> RepairedCandidate:
        """As ``SharedEvaluation``."""
        return RepairedCandidate(self._supernet, self.store, trace, weights, position)

    def prepare(self, arch: Arch, candidate: Candidate) -> None:
        """Repairs a candidate's weights."""
        assert isinstance(candidate, RepairedCandidate)
        assert self._whole is not None
        candidate.repair(self.original, self._whole, self._feed, self.original.recall(arch) or {})
        self.original.remember(arch, candidate.repaired)

    def subnet(self, arch: Arch) -> nn.Module:
        """The extracted subnet with repaired weights, in eval mode."""
        network = self._supernet.extract(arch).eval()
        skeleton, blocks = self._supernet.skeleton(arch, lambda block: block.module)
        paths = paths_of(skeleton, blocks)
        found = self.original.recall(arch)
        if found is None:
            with torch.inference_mode(False), torch.no_grad():
                found = self._by_calls(arch)
                if found is None:
                    found = self._by_passes(network, blocks, paths)
            self.original.remember(arch, found)
        for block, tensors in found.items():
            _set(network.get_submodule(paths[block.name]), tensors)
        return network

    def too_few_places(self, arch: Arch) -> tuple[int, int]:
        """As ``Original``, of an architecture."""
        if self.original.recall(arch) is None:
            self.subnet(arch)
        return self.original.too_few_places(self.original.recall(arch) or {})

    def _by_calls(self, arch: Arch) -> Mapping[Block, Repaired] | None:
        """The repaired weights, found call by call; None where the network's calls do not tell what it computes."""
        graph = self.graph()
        trace = graph.trace(arch)
        if trace is None or self._whole is None or not self.agrees(arch, trace):
            return None
        while not reads_what_changed(trace):
            candidate = RepairedCandidate(self._supernet, Store(0), trace, {}, 0)
            try:
                candidate.repair(self.original, self._whole, self._feed, {})
            except ChangedInputError:
                continue
            if not reads_what_changed(trace):
                return candidate.repaired
        return None

    def _by_passes(self, network: nn.Module, blocks: list[Block], paths: Mapping[str, str]) -> Mapping[Block, Repaired]:
        """Repairs ``network`` in place by running it anew, as far as it has to, for each block: of a network whose calls cannot
        be told, every block counts as changed that runs after one that differs from the largest network's.
        """
        order = order_of(network, paths, next(iter(self.original.chunks()))[:2])
        of_name = {block.name: block for block in blocks}
        same = [of_name[name] is self.original.blocks.get(name) for name in order]
        missing = [name for name in self.original.blocks if name not in of_name]
        first = same.index(False) if False in same else len(order)
        for name in missing:  # what follows a block that was left out
            before = list(self.original.blocks)[: list(self.original.blocks).index(name)]
            first = min(first, 1 + max((order.index(one) for one in before if one in order), default=-1))
        found = {}
        for name in order[first:]:
            if order.count(name) == 1 and self.original.readers(of_name[name]):
                block, module = of_name[name], network.get_submodule(paths[name])
                found[block] = self.original.repair(module, block, partial(self._passes, network, module))
        return found

    def _passes(self, network: nn.Module, module: nn.Module) -> Iterator[Callable[[], object]]:
        def stop(*_: Any) -> None:
            raise _Enough

        def run(images: Tensor) -> None:
            hook = module.register_forward_hook(stop)
            try:
                network(images)
            except _Enough:
                pass
            finally:
                hook.remove()

        for images in self.original.chunks():
            yield partial(run, images)


class RepairedCandidate(Candidate):
    """A candidate whose weights are repaired: those of a call depend on the call alone, as statistics do.

    Attributes:
        repaired: tensors of the blocks that were repaired.
    """

    def __init__(
        self, supernet: Supernet, store: Store, trace: Trace, weights: dict[Block, Uses], position: int
    ) -> None:
        super().__init__(supernet, store, trace, weights, position)
        self.repaired: dict[Block, Repaired] = {}
        self._order = {node: index for index, node in enumerate(trace.nodes)}
        self._last_read = {item: index for node, index in self._order.items() for item in node.inputs}
        self._values: dict[tuple[Node, int], Any] = {}
        self._num_bytes = 0

    def repair(self, original: Original, whole: Trace, feed: Feed, recalled: Mapping[Block, Repaired]) -> None:
        """Repairs each block that is called on other inputs than in the largest network, or is another one, as far as its weights
        are not ``recalled``.
        """
        unchanged = set(whole.nodes)
        often = Counter(node.operation.block for node in self._trace.nodes if node.operation)
        plan = [
            (node, node.operation.block)
            for node in self._trace.nodes
            if node.operation
            and node.operation.block
            and node not in unchanged
            and node not in self._trace.unread
            and often[node.operation.block] == 1
            and original.readers(node.operation.block)
        ]
        for node, block in plan:
            module = self._supernet.extract_block(block).eval()
            self._modules[block] = module
            known = recalled.get(block) or self._store.get(node.occurrences, _REPAIRED)
            if known is None:
                known = original.repair(module, block, partial(self._calls, node, feed))
            else:
                _set(module, known)
            self._store.put(node.occurrences, _REPAIRED, known, self._position)
            self.repaired[block] = known
            self._let_go(self._order[node])
        self._let_go(len(self._order))

    def _calls(self, node: Node, feed: Feed) -> Iterator[Callable[[], object]]:
        for part, images, _ in feed.parts():
            yield partial(self._run_on, node, part, images)

    def _run_on(self, node: Node, part: int, images: Callable[[], Tensor]) -> None:
        self._call(node, self._inputs(node, part, images), None)

    def _inputs(self, node: Node, part: int, images: Callable[[], Tensor]) -> dict[Node, Any]:
        """What a call reads, from what is kept as far as it goes."""
        calls: list[Node] = []
        values: dict[Node, Any] = {}
        needed = set(node.inputs)
        for item in self._trace.nodes[self._order[node] :: -1]:
            if item not in needed:
                continue
            if (item, part) in self._values:
                values[item] = self._values[item, part]
            elif self._store.has(item, (CALIBRATION, part)):
                values[item] = self._store.get(item, (CALIBRATION, part))
            else:
                calls.append(item)
                needed.update(item.inputs)
        last = {item: call for call in reversed(calls) for item in call.inputs}
        for call in reversed(calls):
            values[call] = images() if call.operation is None else self._call(call, values, None)
            self._store.put(call, (CALIBRATION, part), values[call], self._position)
            self._keep(call, part, values[call])
            for item in call.inputs:
                if last[item] is call and item not in node.inputs:
                    del values[item]
        return values

    def _keep(self, node: Node, part: int, value: Any) -> None:
        size = _num_bytes(value)
        if (node, part) not in self._values and self._num_bytes + size <= WORKING_BYTES:
            self._values[node, part] = value
            self._num_bytes += size

    def _let_go(self, index: int) -> None:
        """Lets go of what only calls before ``index`` read."""
        for node, part in list(self._values):
            if self._last_read.get(node, -1) < index:
                self._num_bytes -= _num_bytes(self._values.pop((node, part)))


class _Enough(Exception):
    """The rest of a forward pass is of no use."""


def largest_at(supernet: Supernet, resolution: int) -> Arch:
    """The largest architecture with inputs of ``resolution`` pixels."""
    largest = supernet.space.largest
    if supernet.space.input_shape(largest)[-1] == resolution:
        return largest
    return supernet.space.arch({**largest, "resolution": resolution})


def paths_of(network: nn.Module, blocks: list[Block]) -> dict[str, str]:
    """Where the blocks of a skeleton lie in it, by name."""
    found = {id(module): path for path, module in network.named_modules()}
    return {block.name: found[id(block.module)] for block in blocks if id(block.module) in found}


def order_of(network: nn.Module, paths: Mapping[str, str], images: Tensor) -> list[str]:
    """The names of a network's blocks in the order in which they run; one that runs several times comes as often."""
    order: list[str] = []
    hooks = [
        network.get_submodule(path).register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, path in paths.items()
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return order


@torch.no_grad()
def _set(module: nn.Module, tensors: Repaired) -> None:
    for name, tensor in tensors.items():
        module.get_parameter(name).copy_(tensor)


def _bytes_of(found: Mapping[Block, Repaired]) -> int:
    return sum(tensor.nbytes for tensors in found.values() for tensor in tensors.values())


def _num_bytes(value: Any) -> int:
    return sum(item.untyped_storage().nbytes() for item in leaves(value) if isinstance(item, Tensor))
