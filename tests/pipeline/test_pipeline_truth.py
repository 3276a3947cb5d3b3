"""Tables of true accuracies: the formats that are read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_spaces import ToySpace

from oneshot.pipeline.judging import known_to
from oneshot.pipeline.truth import Truth, num_retrained, read_truth
from oneshot.spaces import NASBench201, NASBenchMacro

SPACE = ToySpace(resolutions=(6, 8), dropout=0.1)
ARCHS = list(SPACE.enumerate())


def write_table(path: Path, entries: Any) -> Path:
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def test_a_table_of_json_texts(tmp_path: Path) -> None:
    values = dict(zip(ARCHS, np.random.default_rng(0).uniform(0.5, 0.9, len(ARCHS)).tolist(), strict=True))
    path = write_table(tmp_path / "truth.json", {arch.to_json(): value for arch, value in values.items()})
    truth = read_truth(path, SPACE)
    assert truth.source == "truth.json"
    assert truth.values == values


def test_percent_and_objects_and_lists(tmp_path: Path) -> None:
    keys = [arch.to_json() for arch in ARCHS[:4]]
    entries = dict(
        zip(keys, [70, {"mean_acc": 80.5, "std": 3}, {"test_acc": [0.5, 60]}, {"accuracy": 90}], strict=True)
    )
    truth = read_truth(write_table(tmp_path / "truth.json", entries), SPACE)
    assert list(truth.values.values()) == pytest.approx([0.7, 0.805, 0.3025, 0.9])
    fractions = read_truth(write_table(tmp_path / "truth.json", dict(zip(keys, [0, 0.25, 1, 1.0], strict=True))), SPACE)
    assert list(fractions.values.values()) == [0, 0.25, 1, 1]


def test_nas_bench_macros_table(shared_data: Path) -> None:
    space = NASBenchMacro()
    truth = read_truth(shared_data / "nas-bench-macro_cifar10.json", space)
    assert truth.values.keys() == set(space.enumerate())
    assert truth.values[space.from_code("10220212")] == pytest.approx(0.9185332997639973)
    part = space.restrict({"layer1": ("mbconv_k5_e6",)})
    of_part = read_truth(shared_data / "nas-bench-macro_cifar10.json", part).values
    assert of_part == {arch: value for arch, value in truth.values.items() if arch["layer1"] == "mbconv_k5_e6"}


def test_nas_bench_201s_strings_and_isomorphic_cells(tmp_path: Path) -> None:
    """Two cells that are one network stand for its mean."""
    ends = "none~1|+|none~0|nor_conv_1x1~1|none~2|"
    entries = {
        f"|nor_conv_3x3~0|+|none~0|{ends}": 90.0,
        f"|nor_conv_3x3~0|+|nor_conv_1x1~0|{ends}": 80.0,
        f"|nor_conv_1x1~0|+|none~0|{ends}": 50.0,
    }
    space = NASBench201()
    one, two, other = (space.parse(key) for key in entries)
    assert one == two != other
    assert read_truth(write_table(tmp_path / "t.json", entries), space).values == pytest.approx({one: 0.85, other: 0.5})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[1, 2]", "is no table of true accuracies: a JSON object"),
        ("{}", "is no table of true accuracies"),
        ("{", "is not JSON: "),
        ({"02012100": 90}, "an architecture is written as a JSON object of choices and values, not '02012100'"),
        ({'{"width": 4}': 90}, r"choice 'resolution' has no value; its options are \[6, 8\]"),
        ({ARCHS[0].to_json(): "good"}, "the entry of .* holds no accuracy: .* not 'good'"),
        ({ARCHS[0].to_json(): {"loss": 1}}, r"or an object that has one as accuracy, mean_acc, .* not \{'loss': 1\}"),
        ({ARCHS[0].to_json(): 101}, "a number from 0 to 100, .* not 101"),
        ({ARCHS[0].to_json(): [0.5, None]}, "holds no accuracy"),
        ('{"a": NaN}', "holds no accuracy"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, entries: Any, message: str) -> None:
    path = write_table(tmp_path / "truth.json", entries)
    with pytest.raises(ValueError, match=message) as caught:
        read_truth(path, SPACE)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no table of true accuracies .*nothing\.json"):
        read_truth(tmp_path / "nothing.json", SPACE)


def test_numbers_to_retrain() -> None:
    assert num_retrained("retrain:20") == 20
    assert num_retrained("retrained/truth.json") is None
    assert num_retrained("../table.json") is None
    for text in ("retrain", "retrain:", "retrain:1", "retrain:many", "retrain:2.5"):
        with pytest.raises(ValueError, match=f"truth=retrain:N retrains N networks, at least 2, .* be '{text}'"):
            num_retrained(text)


def test_a_truth_that_tells_nothing_apart_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, *_ = ToySpace().enumerate()
    known_to(Truth("differing.json", {first: 0.5, second: 0.6}), [first, second])
    assert caplog.text == ""
    assert known_to(Truth("equal.json", {first: 0.5, second: 0.5}), [first, second]) == [first, second]
    assert "all 2 networks of which equal.json tells the true accuracy have the same" in caplog.text
