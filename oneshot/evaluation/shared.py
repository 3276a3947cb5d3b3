"""Scores of many candidates at once: what several of them compute alike is computed once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.evaluation.batches import Batches
from oneshot.evaluation.exchange import Portions
from oneshot.evaluation.keeping import Store, Uses
from oneshot.evaluation.merging import MergedGraph, Node, Operation, Trace, reads_what_changed
from oneshot.evaluation.nesting import leaves, replaced
from oneshot.evaluation.recalibration import NormStatistics, Statistics, chunks, set_statistics
from oneshot.evaluation.score import Score, score_of
from oneshot.spaces.skeleton import Block
from oneshot.supernet import Supernet

_LOGGER = logging.getLogger(__name__)
_WINDOW = 8192  # candidates that are merged at a time: their calls are all known beforehand
CALIBRATION, _HELD_OUT, _STATISTICS, _WEIGHTS = "calibration", "held out", "statistics", "weights"

_Batch = tuple[Tensor, Tensor | None]


class SharedEvaluation:
    """Scores candidates as ``one_by_one`` does, bit for bit, walking the merged graph of their calls: a call of one block on one
    input runs once for all candidates that have it, on each chunk of calibration images and each held-out batch, as long as its
    results fit into memory.

    Candidates are taken in the order of a depth-first walk, so that those with a long common beginning follow each other. A
    network whose calls cannot be told from its forward is scored by ``one_by_one``.

    Args:
        calibration: the images on which statistics are measured; None leaves candidates those of the supernet.
        limit: bytes that are kept from one candidate for later ones; what is dropped is computed again. What one call works on
            comes on top.

    Attributes:
        store: what is kept.
    """

    def __init__(
        self,
        supernet: Supernet,
        calibration: Batches | None,
        held_out: Batches,
        one_by_one: Callable[[Arch], Score],
        limit: int,
    ) -> None:
        self._supernet, self._one_by_one = supernet, one_by_one
        self._calibration, self._held_out = calibration, held_out
        self._feeds: dict[tuple[str, int], Feed] = {}
        self.store = Store(limit)

    def scores(
        self, archs: Sequence[Arch], portions: Portions | None = None
    ) -> Generator[tuple[Arch, Score], None, None]:
        """Each architecture once, with its score, as soon as that is known; of several processes that share them out by
        ``portions``, those that fall to this one.
        """
        distinct = list(dict.fromkeys(archs))
        for start in range(0, len(distinct), _WINDOW):
            yield from self._window(distinct[start : start + _WINDOW], portions or Portions())
            self.store.clear()

    def _window(self, archs: list[Arch], portions: Portions) -> Iterator[tuple[Arch, Score]]:
        graph = self.graph()
        traced: list[tuple[Arch, Trace]] = []
        others: list[Arch] = []
        for arch in archs:
            trace = graph.trace(arch) if len(archs) > 1 else None
            if trace is None:
                others.append(arch)
            else:
                traced.append((arch, trace))
        if traced and not self.agrees(*traced[0]):
            _LOGGER.warning("the calls of the networks' blocks do not tell what they compute: scoring them one by one")
            traced, others = [], archs
        traced.sort(key=lambda pair: [node.number for node in pair[1].nodes])
        for part in portions(len(traced)):
            weights = _note_uses([trace for _, trace in traced[part.start : part.stop]], part.start)
            for position in part:
                arch, trace = traced[position]
                score = self._score(arch, trace, weights, position)
                self.store.tidy(position)
                yield arch, score
        for part in portions(len(others)):
            for position in part:
                yield others[position], self._one_by_one(others[position])

    def graph(self) -> MergedGraph:
        """An empty graph for candidates that are merged."""
        return MergedGraph(self._supernet)

    def candidate(self, trace: Trace, weights: dict[Block, Uses], position: int) -> Candidate:
        """The candidate with these calls, at its position among those that are merged."""
        return Candidate(self._supernet, self.store, trace, weights, position)

    def prepare(self, arch: Arch, candidate: Candidate) -> None:
        """Gives a candidate the statistics that it is scored with."""
        if self._calibration is not None:
            candidate.calibrate(self._calibration_feed(self._calibration, self._supernet.space.input_shape(arch)[-1]))

    def _calibration_feed(self, images: Batches, resolution: int) -> Feed:
        """The training images at a resolution, in the chunks in which they are measured."""
        return self._feeds.setdefault(
            (CALIBRATION, resolution),
            Feed(lambda: ((chunk, None) for chunk in chunks(image for image, _ in images.at(resolution)))),
        )

    def agrees(self, arch: Arch, trace: Trace) -> bool:
        """Whether the calls of a trace give the logits of the extracted network, on two random images."""
        with torch.inference_mode(False), torch.no_grad():
            images = torch.rand(2, *self._supernet.space.input_shape(arch), generator=torch.Generator().manual_seed(0))
            images = images.to(self._held_out.device, memory_format=self._held_out.memory_format)
            expected = self._supernet.extract(arch).eval()(images.clone())
            while not reads_what_changed(trace):
                candidate = Candidate(self._supernet, Store(0), trace, {}, 0)
                with contextlib.suppress(ChangedInputError):
                    ((found, _),) = candidate.predict(Feed(lambda: iter([(images.clone(), images)])))
                    return torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True)
        return True  # it will not be run by its calls

    def _score(self, arch: Arch, trace: Trace, weights: dict[Block, Uses], position: int) -> Score:
        while not reads_what_changed(trace):
            try:
                with torch.inference_mode(False), torch.no_grad():
                    score = self._run(arch, self.candidate(trace, weights, position))
                if not reads_what_changed(trace):  # which operations share memory is known now
                    return score
            except ChangedInputError:
                self.store.clear()  # what shared that memory is no longer what it was; the call gets copies from now on
        return self._one_by_one(arch)

    def _run(self, arch: Arch, candidate: Candidate) -> Score:
        resolution = self._supernet.space.input_shape(arch)[-1]
        held_out = self._feeds.setdefault((_HELD_OUT, resolution), Feed(lambda: self._held_out.at(resolution)))
        self.prepare(arch, candidate)
        return score_of(candidate.predict(held_out))


class Candidate:
    """One network of the merged graph, run call by call: from the store, as far as it goes, and otherwise on its own."""

    def __init__(
        self, supernet: Supernet, store: Store, trace: Trace, weights: dict[Block, Uses], position: int
    ) -> None:
        self._supernet, self._store, self._trace = supernet, store, trace
        self._weights, self._position = weights, position
        self._modules: dict[Block, nn.Module] = {}
        self._statistics: dict[Node, Statistics] = {}
        self._measured: dict[Operation, NormStatistics] = {}

    def calibrate(self, feed: Feed) -> None:
        """Measures the statistics of every call whose statistics are not known from an earlier candidate."""
        missing = []
        for node in self._trace.nodes:
            if node.operation and node.operation.has_norms and node not in self._trace.unread:
                known = self._store.get(node.occurrences, _STATISTICS)
                if known is None:
                    missing.append(node)
                else:
                    self._statistics[node] = known
        if not missing:
            return
        with contextlib.ExitStack() as stack:
            for part, images, _ in feed.parts():
                self.run((CALIBRATION, part), missing, images, stack)
            if not self._measured:
                raise ValueError("recalibration needs at least one batch of images")
            for node in missing:
                assert node.operation is not None
                self._statistics[node] = self._measured[node.operation].result()
                self._store.put(node.occurrences, _STATISTICS, self._statistics[node], self._position)

    def predict(self, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and labels of every batch."""
        output = self._trace.output
        for part, images, labels in feed.parts():
            assert labels is not None
            # What is unread runs until it is known to do nothing to others.
            unknown = [node for node in self._trace.unread if node.operation and not node.operation.has_run]
            yield self.run((_HELD_OUT, part), (output, *unknown), images)[output], labels

    def run(
        self,
        part: tuple[str, int],
        wanted: Sequence[Node],
        images: Callable[[], Tensor],
        measuring: contextlib.ExitStack | None = None,
    ) -> dict[Node, Any]:
        """Makes the ``wanted`` calls on one batch, and those that they need and that the store does not have. Returns the results
        that none of these calls reads.

        Args:
            measuring: where the blocks' norms stay as recalibration wants them; as known by now without it.
        """
        calls, values = self._plan(part, wanted)
        last_reader = {item: node for node in calls for item in node.inputs}
        for node in calls:
            if node.operation is None:
                values[node] = images()
                continue
            values[node] = self._call(node, values, measuring)
            self._store.put(node, part, values[node], self._position)
            for item in node.inputs:
                if last_reader[item] is node:
                    del values[item]
        return values

    def _plan(self, part: tuple[str, int], wanted: Sequence[Node]) -> tuple[list[Node], dict[Node, Any]]:
        calls: list[Node] = []
        values: dict[Node, Any] = {}
        must, needed = set(wanted), set(wanted)
        for node in reversed(self._trace.nodes):
            if node not in needed:
                continue
            if node not in must and self._store.has(node, part):
                values[node] = self._store.get(node, part)
                continue
            calls.append(node)
            needed.update(node.inputs)
        return calls[::-1], values

    def _call(self, node: Node, values: dict[Node, Any], measuring: contextlib.ExitStack | None) -> Any:
        operation = node.operation
        assert operation is not None
        args, kwargs = replaced((node.args, node.kwargs), lambda item: values[item] if isinstance(item, Node) else item)
        if operation.mutates:
            args, kwargs = _copied((args, kwargs))
        given = [item for item in leaves((args, kwargs)) if isinstance(item, Tensor)]
        versions = [tensor._version for tensor in given]
        output = self._function(node, operation, measuring)(*args, **kwargs)
        operation.has_run = True
        if not operation.mutates and versions != [tensor._version for tensor in given]:
            operation.mutates = True
            raise ChangedInputError
        if not operation.aliases:
            memory = {_address(tensor) for tensor in given}
            operation.aliases = any(_address(item) in memory for item in leaves(output) if isinstance(item, Tensor))
        return output

    def _function(self, node: Node, operation: Operation, measuring: contextlib.ExitStack | None) -> Callable[..., Any]:
        if operation.function is not None:
            return operation.function
        assert operation.block is not None
        if measuring is None or not operation.has_norms:
            module = self._module(operation.block)
            if node in self._statistics:
                set_statistics(module, self._statistics.pop(node))
            return module
        if operation not in self._measured:
            self._measured[operation] = measuring.enter_context(NormStatistics(self._module(operation.block)))
        return self._measured[operation].measure

    def _module(self, block: Block) -> nn.Module:
        """The block with its weights, a copy that all candidates share."""
        module = self._modules.get(block)
        if module is None:
            weights = self._weights.get(block)
            module = self._store.get(weights, _WEIGHTS) if weights else None
            if module is None:
                module = self._supernet.extract_block(block).eval()
                if weights:
                    self._store.put(weights, _WEIGHTS, module, self._position)
            self._modules[block] = module
        return module


class ChangedInputError(Exception):
    """A call changed its inputs in place, which others were to read."""


class Feed:
    """The batches of one kind and size, which are only prepared where somebody asks for the images."""

    def __init__(self, batches: Callable[[], Iterator[_Batch]]) -> None:
        self._batches = batches
        self._labels: list[Tensor | None] = []
        self._complete = False

    def parts(self) -> Iterator[tuple[int, Callable[[], Tensor], Tensor | None]]:
        """Each batch's number, what gives its images, and its labels."""
        opened: Iterator[tuple[int, _Batch]] | None = None

        def images(part: int) -> Tensor:
            nonlocal opened
            opened = opened or enumerate(self._batches())
            return next(batch[0] for number, batch in opened if number == part)

        if self._complete:
            for part, labels in enumerate(self._labels):
                yield part, lambda part=part: images(part), labels  # type: ignore[misc]
            return
        self._labels.clear()
        for part, (batch, labels) in enumerate(self._batches()):
            self._labels.append(labels)
            yield part, lambda batch=batch: batch, labels  # type: ignore[misc]
        self._complete = True


def _note_uses(traces: list[Trace], first: int) -> dict[Block, Uses]:
    """Notes, in the nodes of traces, which of these candidates, numbered from ``first``, first make a call that reads them, and
    which ones have them. For blocks, returned are those that first call them on an input.
    """
    seen: set[Node] = set()
    weights: dict[Block, Uses] = {}
    for position, trace in enumerate(traces, first):
        for node in trace.nodes:
            if node.operation and node.operation.block:
                node.occurrences.uses.append(position)
            if node in seen:
                continue
            seen.add(node)
            users: list[Node | Uses] = [*node.inputs]
            if node.operation and node.operation.block:
                users.append(weights.setdefault(node.operation.block, Uses()))
            for user in users:
                if not user.uses or user.uses[-1] < position:
                    user.uses.append(position)
    return weights


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _copied(value: Any) -> Any:
    """Nested arguments with copies of the tensors that lie in memory just as they do, and share it where they do."""
    storages: dict[int, Any] = {}

    def copy(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        storage = item.untyped_storage()
        if storage.data_ptr() not in storages:
            storages[storage.data_ptr()] = storage.clone()
        empty = torch.empty(0, dtype=item.dtype, device=item.device)
        return empty.set_(storages[storage.data_ptr()], item.storage_offset(), item.shape, item.stride())

    return replaced(value, copy)
