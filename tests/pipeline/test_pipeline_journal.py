"""The journal of a search survives whatever stops it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_spaces import ToySpace

from oneshot.arch import Arch
from oneshot.evaluation import Score
from oneshot.pipeline.journal import Journal, Latencies

SPACE = ToySpace(resolutions=(6, 8))
ARCHS = list(SPACE.enumerate())


def fill(path: Path, number: int) -> Journal:
    journal = Journal(path, SPACE)
    for index, arch in enumerate(ARCHS[:number]):
        journal.add("search", arch, Score(index / 7, 1 / (index + 3), 64), 10 * index, index, None)
    return journal


def test_scores_are_read_back_exactly(tmp_path: Path) -> None:
    written = fill(tmp_path / "candidates.csv", 5)
    read = Journal(tmp_path / "candidates.csv", SPACE)
    assert read.scores == written.scores
    assert list(read.scores) == ARCHS[:5]
    lines = (tmp_path / "candidates.csv").read_text().splitlines()
    assert lines[0] == "index,source,accuracy,loss,num_images,macs,params,latency_ms,arch"
    assert lines[2].startswith("1,search,0.14285714285714285,0.25,64,10,1,,")


def test_rows_go_on_where_they_stopped(tmp_path: Path) -> None:
    fill(tmp_path / "candidates.csv", 2)
    journal = Journal(tmp_path / "candidates.csv", SPACE)
    journal.add("random", ARCHS[2], Score(0.5, 0.5, 64), 1, 2, 3.25)
    assert (tmp_path / "candidates.csv").read_text().splitlines()[3].startswith("2,random,0.5,0.5,64,1,2,3.25,")
    assert len(Journal(tmp_path / "candidates.csv", SPACE).scores) == 3


def test_a_row_cut_short_is_dropped_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "candidates.csv"
    fill(path, 3)
    content = path.read_bytes()
    start = content.rindex(b"\n", 0, -1) + 1
    for length in range(start, len(content)):
        path.write_bytes(content[:length])
        journal = Journal(path, SPACE)
        assert list(journal.scores) == ARCHS[:2]
        journal.add("search", ARCHS[2], Score(2 / 7, 1 / 5, 64), 20, 2, None)
        assert path.read_bytes() == content


@pytest.mark.parametrize("length", [0, 10])
def test_a_file_without_a_whole_line(tmp_path: Path, length: int) -> None:
    path = tmp_path / "candidates.csv"
    fill(path, 1)
    content = path.read_bytes()
    path.write_bytes(content[:length])
    fill(path, 1)
    assert path.read_bytes() == content


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "candidates.csv"
    path.write_text("arch,accuracy\n1,2\n")
    with pytest.raises(ValueError, match=r"candidates\.csv is not a list of candidates .*\['arch', 'accuracy'\]"):
        Journal(path, SPACE)
    assert path.read_text() == "arch,accuracy\n1,2\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('""width"": 4', '""width"": 5', r"row 1: choice 'width' cannot be 5"),
        ("0.14285714285714285", "much", "row 1: could not convert"),
        (",search,", ",search\n", "row"),
    ],
)
def test_rows_that_make_no_sense_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "candidates.csv"
    fill(path, 3)
    lines = path.read_text().split("\n")
    lines[2] = lines[2].replace(old, new)
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message) as raised:
        Journal(path, SPACE)
    assert "candidates.csv" in str(raised.value)


# Latencies -----------------------------------------------------------------------------------------------------------


class Clock:
    """Measures 0.1, 1.1, 2.1, ... milliseconds."""

    def __init__(self, start: int = 0) -> None:
        self.measured: list[Arch] = []
        self.start = start

    def __call__(self, arch: Arch) -> float:
        self.measured.append(arch)
        return self.start + len(self.measured) - 0.9


def test_each_architecture_is_measured_once(tmp_path: Path) -> None:
    clock = Clock()
    latencies = Latencies(tmp_path / "latencies.csv", SPACE, clock)
    assert [latencies(arch) for arch in (ARCHS[0], ARCHS[1], ARCHS[0])] == pytest.approx([0.1, 1.1, 0.1])
    assert clock.measured == ARCHS[:2]
    assert latencies.known(ARCHS[1:3]) == {ARCHS[1]: 2 - 0.9}
    later = Clock(start=50)
    again = Latencies(tmp_path / "latencies.csv", SPACE, later)
    assert again(ARCHS[1]) == 2 - 0.9
    assert not later.measured
    assert again(ARCHS[2]) == 51 - 0.9


def test_a_latency_cut_short_is_measured_again(tmp_path: Path) -> None:
    """And the next one is not appended to what is left of it."""
    path = tmp_path / "latencies.csv"
    latencies = Latencies(path, SPACE, Clock())
    for arch in ARCHS[:3]:
        latencies(arch)
    content = path.read_bytes()
    start = content.rindex(b"\n", 0, -1) + 1
    for length in range(start, len(content)):
        path.write_bytes(content[:length])
        again = Latencies(path, SPACE, Clock(start=2))
        assert again(ARCHS[2]) == 3 - 0.9
        assert path.read_bytes() == content


def test_latencies_that_make_no_sense_are_named(tmp_path: Path) -> None:
    path = tmp_path / "latencies.csv"
    Latencies(path, SPACE, Clock())(ARCHS[0])
    with path.open("a") as file:
        file.write("1.0\n")
    with pytest.raises(ValueError, match=r"latencies\.csv, row 1: "):
        Latencies(path, SPACE, Clock())
