"""Shares of several processes, without starting any; tests/training and tests/pipeline start some."""

from __future__ import annotations

import os

import pytest
import torch

from oneshot.data.decoding import num_available_cores
from oneshot.devices import resolve_device
from oneshot.evaluation.exchange import _parts
from oneshot.processes import Share, share_of


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes this process one of several."""

    def be(rank: int, count: int) -> None:
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
        monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: count)

    return be


@pytest.mark.parametrize("total", [4, 5, 6, 7, 64, 1000])
def test_shares_are_all_rows_and_differ_by_one_at_most(be, total: int) -> None:  # type: ignore[no-untyped-def]
    rows, sizes = list(range(total)), set()
    taken: list[int] = []
    weight = 0.0
    for rank in range(4):
        be(rank, 4)
        share = share_of(total)
        taken += rows[share.rows]
        sizes.add(share.stop - share.start)
        weight += share.weight
    assert taken == rows
    assert max(sizes) - min(sizes) <= 1
    assert weight == pytest.approx(1)


def test_a_batch_that_is_too_small_is_refused(be) -> None:  # type: ignore[no-untyped-def]
    assert share_of(1) == Share(0, 1, 1)
    be(0, 4)
    with pytest.raises(ValueError, match="a batch of 3 cannot be shared out among 4 processes"):
        share_of(3)


def test_a_device_for_each(be, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    be(1, 2)
    with pytest.raises(ValueError, match="device 'cuda:0' is one, but each of 2 processes takes its own of 'cuda'"):
        resolve_device("cuda:0")
    assert resolve_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes of this run are here and 1 CUDA devices: start one each"):
        resolve_device("cuda")


def test_cores_are_shared_out_too(be, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(12), raising=False)
    assert num_available_cores() == 8
    be(0, 16)
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "4")
    assert num_available_cores() == 3


@pytest.mark.parametrize("total", [0, 1, 7, 200, 6561])
def test_parts_become_smaller_and_are_all(total: int) -> None:
    assert [place for part in _parts(total, 1) for place in part] == list(range(total))
    parts = _parts(total, 3)
    assert [place for part in parts for place in part] == list(range(total))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= 2 for size in sizes[-3:])
    assert len(parts) <= 60
