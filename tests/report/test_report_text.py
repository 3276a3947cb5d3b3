"""Numbers with units and short names of architectures."""

import pytest

from oneshot.report.naming import abbreviate, format_architecture, group_choices
from oneshot.report.units import format_cost, format_count, format_metric, format_share


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (812, "812"),
        (999.6, "1.00 k"),
        (1234, "1.23 k"),
        (99_960, "100 k"),
        (999_600, "1.00 M"),
        (5_912_345, "5.91 M"),
        (59_123_450, "59.1 M"),
        (3_400_000_000, "3.40 G"),
        (2.5e13, "25.0 T"),
        (0.25, "0.25"),
    ],
)
def test_counts(value, text):
    assert format_count(value).replace("\u00a0", " ") == text


def test_units():
    assert format_cost("macs", 6e6) == "6.00\u00a0M\u00a0MACs"
    assert format_cost("latency_ms", 12.345) == "12.3\u00a0ms"
    assert format_cost("latency_ms", None) == "not measured"
    assert format_metric("accuracy", 0.76543) == "76.54\u00a0%"
    assert format_metric("loss", 0.76543) == "0.7654"
    assert [format_share(part, 10_000).replace("\u00a0", " ") for part in (0, 1, 1234, 10_000)] == [
        "0 %",
        "<0.1 %",
        "12.3 %",
        "100 %",
    ]
    assert format_share(0, 0) == "0\u00a0%"


def test_abbreviations_tell_names_apart():
    assert abbreviate(["kernel", "expand", "depth", "kernel"]) == {"kernel": "k", "expand": "e", "depth": "d"}
    assert abbreviate(["expand", "excite", "ex"]) == {"expand": "exp", "excite": "exc", "ex": "ex"}


def test_architecture_on_one_line():
    arch = {
        "resolution": 224,
        "stage1.depth": 2,
        "stage1.block1.kernel": 3,
        "stage1.block1.expand": 6,
        "stage1.block2.kernel": 5,
        "stage1.block2.expand": 4,
        "stage2.squeeze": True,
        "stage2.operation": "skip",
    }
    assert format_architecture(arch) == "r224 | stage1 d2 k3\u00b75 e6\u00b74 | stage2 s=yes o=skip"


def test_choices_are_grouped_by_stage_and_kind():
    groups = group_choices(["stage1.block1.kernel", "stage2.block1.kernel", "stage1.block2.kernel"])
    assert [(group.name, dict(group.kinds)) for group in groups] == [
        ("stage1", {"kernel": [0, 2]}),
        ("stage2", {"kernel": [1]}),
    ]
    flat = group_choices([f"layer_{n}" for n in range(20)])
    assert [(group.name, dict(group.kinds)) for group in flat] == [("", {"layer": list(range(20))})]
    many = group_choices([f"block{n}.kernel" for n in range(20)])
    assert [(group.name, dict(group.kinds)) for group in many] == [("block", {"kernel": list(range(20))})]
