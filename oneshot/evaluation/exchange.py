"""Candidates shared out among several processes while they are scored, and their scores exchanged."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as distributed

from oneshot.arch import Arch
from oneshot.evaluation.score import Score
from oneshot.processes import count, from_first, is_first, losing, next_turn, rank

_DONE = -1


class Portions:
    """Work that several processes take as they are free: parts of it, first large and then ever smaller, in order, so that what
    neighbours have in common stays together and all end at the same time (guided self-scheduling: Polychronopoulos and Kuck, IEEE
    Transactions on Computers 1987). One process takes it all at once.
    """

    def __init__(self) -> None:
        self._name, self._number = from_first(secrets.token_hex(8)), 0

    def __call__(self, total: int) -> Iterator[range]:
        """This process's parts of ``range(total)``. The processes ask for the same totals in the same order."""
        self._number += 1
        parts = _parts(total, count())
        yield from (parts[turn] for turn in self._turns(len(parts)))

    def one_by_one(self, total: int) -> Iterator[int]:
        """This process's places in ``range(total)``, each as soon as it is free: for few pieces of work, the largest first."""
        self._number += 1
        return self._turns(total)

    def _turns(self, total: int) -> Iterator[int]:
        if count() == 1:
            yield from range(total)
            return
        name = f"portion {self._name} {self._number}"
        while (turn := next_turn(name)) < total:
            yield turn


def _parts(total: int, processes: int) -> list[range]:
    """Each is half of an equal share of what is left."""
    if processes == 1:
        return [range(total)] if total else []
    parts, start = [], 0
    while start < total:
        stop = min(total, start + max(2, -(-(total - start) // (2 * processes))))
        parts.append(range(start, stop))
        start = stop
    return parts


def exchanged(archs: Sequence[Arch], own: Iterator[tuple[Arch, Score]]) -> Iterator[tuple[Arch, Score]]:
    """The scores of all ``archs`` in every process, of which ``own`` finds some here: in the first process as soon as they are
    known anywhere, so that it can write them, in the others at the end.

    Raises:
        LostProcess: one of them has ended.
    """
    if count() == 1:
        yield from own
        return
    places = {arch: place for place, arch in enumerate(archs)}
    if not is_first():
        for arch, score in own:
            _send([places[arch], score.accuracy, score.loss, score.num_images])
        _send([_DONE, rank(), 0, 0])
        yield from ((archs[place], score) for place, score in from_first([(0, Score(0, 0, 0))]))
        return
    found: list[tuple[int, Score]] = []
    received: queue.SimpleQueue[list[float] | RuntimeError] = queue.SimpleQueue()
    waited_for = count() - 1
    for peer in range(1, count()):
        threading.Thread(target=_receive, args=(peer, received), daemon=True).start()
    is_working = True
    while is_working or waited_for:
        pair = next(own, None) if is_working else None
        is_working = pair is not None
        if pair is not None:
            found.append((places[pair[0]], pair[1]))
            yield pair
        while waited_for and not (is_working and received.empty()):
            row = received.get()
            with losing():
                if isinstance(row, RuntimeError):
                    raise row
            if row[0] == _DONE:
                waited_for -= 1
                continue
            found.append((int(row[0]), Score(row[1], row[2], int(row[3]))))
            yield archs[found[-1][0]], found[-1][1]
    from_first(found)


def _send(row: list[float]) -> None:
    with losing():
        distributed.send(torch.tensor(row, dtype=torch.float64), 0)


def _receive(peer: int, received: queue.SimpleQueue[list[float] | RuntimeError]) -> None:
    """Puts all that ``peer`` sends into a queue, and how that ended."""
    row = torch.empty(4, dtype=torch.float64)
    try:
        while row[0] != _DONE:
            distributed.recv(row, peer)
            received.put(row.tolist())
    except RuntimeError as error:
        received.put(error)
