"""The scores of a search survive whatever stops it, and others may read them meanwhile."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import random
import sqlite3
import time
from pathlib import Path

import pytest
from child_processes import start, wait
from run_children import NUM_NAMES, Name, Row, grow, make_store, names, record, search

from oneshot.runs import Store, store


def filled(folder: Path, number: int) -> Store[Name, Row]:
    opened = make_store(folder)
    with opened.exported():
        for index in range(number):
            record(opened, index)
    return opened


def query(folder: Path, statement: str) -> list[tuple[object, ...]]:
    """As another program would read it."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def test_scores_are_read_back_exactly(tmp_path: Path) -> None:
    written = filled(tmp_path, 5)
    read = make_store(tmp_path)
    assert read.scores == written.scores
    assert list(read.scores) == names(5)
    assert all(type(score) is Row for score in read.scores.values())
    assert [read.latency(name, "cpu") for name in names(5)] == [index / 3 for index in range(5)]
    assert read.latency(names(1)[0], "cuda") is None
    lines = (tmp_path / "candidates.csv").read_text().splitlines()
    assert lines[0] == "index,source,accuracy,loss,num_images,macs,params,latency_ms,arch"
    assert lines[2] == '1,search,0.14285714285714285,0.25,64,10,1,,"{""width"": 1}"'
    assert query(tmp_path, "SELECT accuracy, macs, arch FROM candidates")[2] == (2 / 7, 20, '{"width": 2}')


def test_candidates_go_on_where_they_stopped(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    opened = make_store(tmp_path)
    with opened.exported():
        opened.record("random", Name("x"), Row(0.5, 0.5, 64), 1, 2, 3.25)
    assert (tmp_path / "candidates.csv").read_text().splitlines()[3] == "2,random,0.5,0.5,64,1,2,3.25,x"
    assert list(make_store(tmp_path).scores) == [*names(2), Name("x")]


def test_other_values_are_read_back_exactly(tmp_path: Path) -> None:
    """Also from a file that was begun before there were any."""
    opened = filled(tmp_path, 1)
    opened.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.execute("DROP TABLE witness_values")
    with make_store(tmp_path) as again:
        again.add_value(Name("x"), "swap", 1 / 3)
        again.add_value(Name("x"), "naswot", math.nan)
        again.add_value(Name("x"), "synflow", -math.inf)
    with make_store(tmp_path) as read:
        assert read.value(Name("x"), "swap") == 1 / 3
        assert math.isnan(read.value(Name("x"), "naswot") or 0)
        assert read.value(Name("x"), "synflow") == -math.inf
        assert read.value(Name("y"), "swap") is None


def test_scores_that_are_costs_have_no_second_column(tmp_path: Path) -> None:
    opened = make_store(tmp_path)
    with opened.exported():
        opened.record("search", Name("a"), Row(0.5, 1.0, 64), 10, 2)
        for name, value in (("macs", 10.0), ("swap", 3.0)):
            opened.add_value(Name("a"), name, value)
    heading, row = (tmp_path / "candidates.csv").read_text().splitlines()
    assert heading.split(",").count("macs") == 1
    assert dict(zip(heading.split(","), row.split(","), strict=True))["swap"] == "3.0"


def test_what_may_change_alone_does_not_stop_a_search(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        store.claim("part", {"data": "a", "images": 1}, "holds another")
        store.claim("part", {"data": "b", "images": 1}, "holds another", ("data",))
        with pytest.raises(ValueError, match=r"holds another \(data was a and is b, images was 1 and is 2\)"):
            store.claim("part", {"data": "b", "images": 2}, "holds another", ("data",))


def test_what_is_no_number_stays_so(tmp_path: Path) -> None:
    opened = make_store(tmp_path)
    with opened.exported():
        opened.record("search", Name("a"), Row(math.nan, math.inf, 64), 1, 2)
    assert (tmp_path / "candidates.csv").read_text().splitlines()[1] == "0,search,nan,inf,64,1,2,,a"
    (score,) = make_store(tmp_path).scores.values()
    assert math.isnan(score.accuracy)
    assert score.loss == math.inf


def test_scores_on_the_first_images_are_no_candidates(tmp_path: Path) -> None:
    opened = make_store(tmp_path)
    for number in (16, 32):
        opened.add(Name("a"), Row(0.5, 1.0, number))
    opened.record("search", Name("a"), Row(0.25, 2.0, 64), 1, 2)
    opened.add(Name("b"), Row(0.75, 3.0, 16))
    opened.commit()
    read = make_store(tmp_path)
    assert read.scores == {Name("a"): Row(0.25, 2.0, 64)}
    assert [read.get(Name("a"), number) for number in (16, 64, 17)] == [Row(0.5, 1.0, 16), Row(0.25, 2.0, 64), None]
    assert read.get(Name("b"), 16) == Row(0.75, 3.0, 16)


def test_candidates_come_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    opened = make_store(tmp_path)
    with opened.exported():
        for index in (3, 1, 2, 0):
            record(opened, index)
        opened.arrange(names(3, 1))
        opened.arrange(names(2))
    assert list(opened.scores) == [*names(3, 1), *names(1), *names(4, 3)]
    assert list(make_store(tmp_path).scores) == list(opened.scores)
    texts = [line.split(",", 1)[1] for line in (tmp_path / "candidates.csv").read_text().splitlines()[1:]]
    assert [text.partition('"": ')[2][0] for text in texts] == ["1", "2", "0", "3"]


def test_what_was_added_before_an_error_is_kept(tmp_path: Path) -> None:
    opened = make_store(tmp_path)
    with pytest.raises(KeyboardInterrupt), opened.exported():  # noqa: PT012 - its body is what is interrupted
        for index in range(3):
            record(opened, index)
        raise KeyboardInterrupt
    assert len((tmp_path / "candidates.csv").read_text().splitlines()) == 4
    assert list(make_store(tmp_path).scores) == names(3)


def test_a_second_is_the_most_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    opened = make_store(tmp_path)
    counts = []
    for index in range(8):
        now += 0.3
        record(opened, index)
        counts.append(query(tmp_path, "SELECT count(*) FROM candidates")[0][0])
    assert counts == [0, 0, 0, 3, 3, 3, 3, 7]


# Killed --------------------------------------------------------------------------------------------------------------


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Whatever was committed before the kill is there after it, and the end is that of an undisturbed search."""
    assert wait(start(search, str(tmp_path / "whole"))) == 0
    folder, rng, seen, kills = tmp_path / "killed", random.Random(0), 0, 0
    while wait(start(search, str(folder), 6, rng.random() * 0.02)) != 0:
        kills += 1
        with make_store(folder) as kept:
            number = len(kept.scores)
        assert number >= min(seen + 5, NUM_NAMES)
        assert query(folder, "PRAGMA integrity_check") == [("ok",)]
        seen = number
    assert kills >= 3
    assert wait(start(search, str(folder))) == 0
    for name in ("candidates.csv", "search.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_program_reads_what_there_is(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe()
    process = start(grow, str(tmp_path), there)
    for index in range(5):
        assert here.recv() == index
        assert query(tmp_path, "SELECT count(*), max(macs) FROM candidates") == [(index + 1, 10 * index)]
        here.send(None)
    assert wait(process) == 0


def test_the_end_of_a_store_writes_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_COMMIT_SECONDS", math.inf)
    with pytest.raises(KeyboardInterrupt), make_store(tmp_path) as opened:  # noqa: PT012 - its body is what is interrupted
        opened.add_latency(Name("a"), "cpu", 2.5)
        assert query(tmp_path, "SELECT count(*) FROM latencies") == [(0,)]
        raise KeyboardInterrupt
    assert query(tmp_path, "SELECT * FROM latencies") == [("a", "cpu", 2.5)]
    with pytest.raises(OSError, match=r"run\.sqlite is closed"):
        opened.commit()


# What goes wrong -----------------------------------------------------------------------------------------------------


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "candidates.csv").write_text("index,source\n")
    with pytest.raises(
        ValueError, match=r"holds candidates\.csv without run\.sqlite: .*; use another folder"
    ) as raised:
        make_store(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert (tmp_path / "candidates.csv").read_text() == "index,source\n"
    filled(tmp_path / "later", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "later" / "run.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(ValueError, match=r"holds run\.sqlite of version 7: a search by another version"):
        make_store(tmp_path / "later")


def test_another_search_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, seed=0, data={"name": "digits", "sizes": (8, 16)})
    make_store(tmp_path, seed=0, data={"name": "digits", "sizes": (8, 16)})
    with pytest.raises(
        ValueError, match=r"holds another search \(data.name was digits and is cifar, seed was 0 and is 1"
    ):
        make_store(tmp_path, seed=1, data={"name": "cifar", "sizes": (8, 16)})


def test_a_part_of_the_folder_has_an_identity_of_its_own(tmp_path: Path) -> None:
    opened = make_store(tmp_path)
    opened.claim("retrained", {"lr": 0.1}, "holds other networks")
    make_store(tmp_path).claim("retrained", {"lr": 0.1}, "holds other networks")
    with pytest.raises(ValueError, match=r"holds other networks \(lr was 0.1 and is 0.2\); use another folder"):
        opened.claim("retrained", {"lr": 0.2}, "holds other networks")


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 40, None])
def test_damaged_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    filled(tmp_path, 40)
    path = tmp_path / "run.sqlite"
    whole = path.read_bytes()
    path.write_bytes(content or whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(ValueError, match=r"run\.sqlite is damaged or no search of this package"):
        make_store(tmp_path)


def test_keys_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    filled(tmp_path, 2)

    def refuse(text: str) -> Name:
        raise ValueError("choice 'width' cannot be 5")

    with pytest.raises(ValueError, match=r"run\.sqlite: choice 'width' cannot be 5"):
        Store(tmp_path, {"seed": 0}, refuse, Row)


def test_a_full_disk_names_the_file_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = filled(tmp_path, 3)
    (pages,) = opened._connection.execute("PRAGMA page_count").fetchone()
    opened._connection.execute(f"PRAGMA max_page_count = {pages}")
    monkeypatch.setattr(store, "_COMMIT_SECONDS", math.inf)
    for index in range(3, 1000):
        record(opened, index)
    with pytest.raises(OSError, match=r"run\.sqlite cannot be read or written: database or disk is full"):
        opened.commit()
    assert list(make_store(tmp_path).scores)[:3] == names(3)
    opened._connection.execute("PRAGMA max_page_count = 100000")
    opened.commit()
    assert set(names(1000)) == set(make_store(tmp_path).scores)


def test_a_reader_who_does_not_end_is_no_reason_to_lose_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.01)
    opened = filled(tmp_path, 3)
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM candidates").fetchone() == (3,)
        record(opened, 3)
        with pytest.raises(OSError, match=r"run\.sqlite cannot be read or written: database is locked"):
            opened.commit()
    opened.commit()
    assert list(make_store(tmp_path).scores) == names(4)
