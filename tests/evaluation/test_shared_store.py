"""What a shared evaluation keeps: no more than its limit, and what is needed last goes first."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneshot.evaluation.keeping import Store

# What is kept --------------------------------------------------------------------------------------------------------


class Owner:
    def __init__(self, *uses: int) -> None:
        self.uses = list(uses)


def held_bytes(store: Store, owners: list[Owner], parts: range) -> int:
    values = [store.get(owner, part) for owner in owners for part in parts if store.has(owner, part)]
    return sum({v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in values}.values())


def test_what_is_needed_last_goes_first() -> None:
    store = Store(100)
    soon, later, last, never = Owner(1, 5), Owner(2), Owner(3), Owner(0)
    for owner in (last, later, soon, never):
        for part in (0, 1):
            store.put(owner, part, torch.zeros(5), now=0)
    assert [[store.has(owner, part) for part in (0, 1)] for owner in (soon, later, last, never)] == [
        [True, True],
        [True, True],
        [True, False],
        [False, False],
    ]
    store.tidy(now=2)
    assert [store.has(owner, 0) for owner in (soon, later, last)] == [True, False, True]
    store.put(later, 0, torch.zeros(26), now=0)
    assert not store.has(later, 0)
    store.clear()
    assert store.num_bytes == 0
    assert store.peak_bytes == 100


def test_shared_memory_counts_once_and_views_hold_all_of_it() -> None:
    store = Store(100)
    whole = torch.zeros(20)
    one, two = Owner(1), Owner(1, 2)
    store.put(one, 0, whole[:2], now=0)
    store.put(two, 0, (whole, {"view": whole.view(4, 5)}), now=0)
    assert store.num_bytes == 80
    store.tidy(now=1)
    assert not store.has(one, 0)
    assert store.num_bytes == 80
    store.tidy(now=2)
    assert store.num_bytes == 0


def steps() -> st.SearchStrategy[list[tuple[int, int, int]]]:
    return st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 40)), max_size=60)


@given(steps(), st.integers(0, 400), st.lists(st.sets(st.integers(0, 59), max_size=8), min_size=5, max_size=5))
@settings(max_examples=60)
def test_the_limit_holds(puts: list[tuple[int, int, int]], limit: int, uses: list[set[int]]) -> None:
    store = Store(limit)
    owners = [Owner(*sorted(positions)) for positions in uses]
    for now, (owner, part, size) in enumerate(puts):
        store.put(owners[owner], part, torch.zeros(size), now)
        assert store.num_bytes == held_bytes(store, owners, range(4)) <= limit
        if part == 0:
            store.tidy(now)
            assert store.num_bytes == held_bytes(store, owners, range(4))
    assert store.peak_bytes <= limit
