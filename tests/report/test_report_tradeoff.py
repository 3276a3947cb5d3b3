"""The page of a search under a list of limits: what it says, where its marks stand, and what it refuses."""

import math
import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_builders import HOSTILE, Elements, make_blocks, plain

from oneshot.report import Candidate, Reference, TradeoffPoint, TradeoffReport, write_tradeoff_report
from oneshot.report.labels import Box

POINTS = [
    TradeoffPoint(11.0, {"stage1.kernel": 3}, 10.5, 90_000_000, 3_100_000, 10.5, 0.731, 0.72, 0.71, make_blocks()),
    TradeoffPoint(20.0, {"stage1.kernel": 5}, 19.5, 150_000_000, 4_200_000, 19.5, 0.762, 0.75, 0.755, make_blocks()),
    TradeoffPoint(64.0, {"stage1.kernel": 7}, 62.0, 590_000_000, 7_700_000, 62.0, 0.798, 0.79, 0.78, make_blocks()),
]
REPORT = TradeoffReport(
    title="Three limits",
    space="a space",
    data="held-out images",
    strategy="Evolution",
    predictor="a small network",
    cost="latency_ms",
    points=POINTS,
    scored=[(10.0 + i / 2, 0.6 + i / 1000) for i in range(100)],
    references=[Reference("Known & small", 15.0, 0.751), Reference("Known, large", 58.5, 0.797)],
    facts={"seed": "0"},
    notes=["Predictions are not measurements."],
)


def without(*names: str) -> TradeoffReport:
    return replace(REPORT, points=[replace(point, **dict.fromkeys(names)) for point in POINTS])


def write(path: Path, report: TradeoffReport = REPORT) -> str:
    write_tradeoff_report(path, report)
    return path.read_text(encoding="utf-8")


def charts(page: str) -> list[ElementTree.Element]:
    """Return the wide and the narrow drawing of the chart."""
    return [ElementTree.fromstring(text) for text in re.findall(r'<div class="chart [^>]*>(<svg.*?</svg>)', page, re.S)]


def of_class(chart: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [node for node in chart.iter() if name in node.get("class", "").split()]


def centres(chart: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    return [(float(node.get("cx")), float(node.get("cy"))) for node in of_class(chart, name)]


def starts(chart: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    paths = "".join(node.get("d") for node in of_class(chart, name))
    return [(float(x), float(y)) for x, y in re.findall(r"M([-\d.]+) ([-\d.]+)", paths)]


def scale(chart: ElementTree.Element, tick: str, position: str, shift: float):
    """Return the pixel of a value, read off the first and the last tick as a reader would."""
    ticks = [(float(node.text.split("\u00a0")[0]), float(node.get(position)) - shift) for node in of_class(chart, tick)]
    (low, start), (high, end) = ticks[0], ticks[-1]
    assert len(ticks) > 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def rows(page: str) -> list[list[str]]:
    """The headings, and for each network its numbers and the architecture, which stands below them."""
    table = re.search(r'<table class="limits">(.*?)</table>', page, re.S)[1]
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.S) for line in lines]
    heading, *body = [[cell.replace("\u00a0", " ") for cell in row] for row in cells]
    return [heading, *(numbers + below for numbers, below in zip(body[::2], body[1::2], strict=True))]


def test_page_is_self_contained_and_needs_no_script(tmp_path):
    page = write(tmp_path / "report.html")
    assert set(re.findall(r"[a-z]+://[^\s\"'<>)]+", page)) == {"http://www.w3.org/2000/svg"}
    elements = Elements(page)
    assert not {"link", "iframe", "object", "base", "script", "noscript"} & set(elements.tags)
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in elements.attributes}


def test_header_and_end_say_what_was_searched(tmp_path):
    text = plain(write(tmp_path / "report.html"))
    assert "space a spacedata held-out imagesstrategy Evolutionpredictor a small network" in text
    assert "How far to trust this" in text
    assert "Predictions are not measurements." in text
    assert "seed0" in text
    assert "predictor" not in plain(write(tmp_path / "report.html", replace(REPORT, predictor="")))


def test_verdict(tmp_path):
    path = tmp_path / "report.html"
    assert (
        "Evolution found networks from 72.00 % accuracy at 10.5 ms to 79.00 % accuracy at 62.0 ms under 3 limits from "
        "11.0 ms to 64.0 ms; random search at equal budget reached less accuracy under 2 of 3 limits."
        in plain(write(path))
    )
    text = plain(write(path, without("accuracy", "baseline")))
    assert "from 73.10 % predicted accuracy at 10.5 ms to 79.80 % predicted accuracy at 62.0 ms under 3 limits" in text
    assert "from 11.0 ms to 64.0 ms." in text
    assert "random search" not in text
    text = plain(write(path, replace(REPORT, points=POINTS[1:2])))
    assert "found a network of 75.00 % accuracy at 19.5 ms under one limit, at most 20.0 ms; random search" in text
    assert "at equal budget reached more accuracy." in text
    text = plain(write(path, replace(REPORT, points=[POINTS[0], POINTS[2]])))
    assert "reached less accuracy under each of 2 limits." in text


def test_where_losses_decide_sentence_table_and_chart_say_so(tmp_path):
    path = tmp_path / "report.html"
    points = [
        replace(point, loss=0.9, baseline_loss=loss) for point, loss in zip(POINTS, (0.8, 1.0, 1.2345), strict=True)
    ]
    page = write(path, replace(REPORT, points=points, metric="loss", original=ORIGINAL))
    text = plain(page)
    assert "found networks from a loss of 0.9000 (72.00 % accuracy) at 10.5 ms to a loss of 0.9000 (79.00 %" in text
    assert ", chosen by their losses; random search at equal budget reached a higher loss under 2 of 3 limits." in text
    assert "networks were chosen by their losses, which the table shows" in text
    heading, *body = rows(page)
    at = heading.index("Loss")
    assert heading[at - 1 : at + 2] == ["Random", "Loss", "Random\u2019s loss"]
    assert [row[at : at + 2] for row in body] == [
        ["0.9000", "0.8000"],
        ["0.9000", "1.0000"],
        ["0.9000", "1.2345"],
        ["0.7000", "\u2013"],
    ]
    one = plain(write(path, replace(REPORT, points=points[:1], metric="loss")))
    assert "random search at equal budget reached a lower loss." in one
    assert "losses" not in plain(write(path, replace(REPORT, points=points)))


def test_where_something_else_decides_it_is_named(tmp_path):
    points = [replace(point, loss=0.9, baseline_loss=0.8) for point in POINTS]
    report = replace(REPORT, points=points, metric="loss", chosen_by="all witnesses together")
    text = plain(write(tmp_path / "report.html", report))
    assert "under 3 limits from 11.0 ms to 64.0 ms, chosen by all witnesses together; what is chosen alike" in text
    assert "of random search at equal budget has less accuracy under 2 of 3 limits." in text
    assert "loss" not in text


def test_what_was_scored_elsewhere_is_not_the_strategys_success(tmp_path):
    """Kept are networks that random search found; the strategy's own have less accuracy, or a higher loss."""
    points = [replace(p, accuracy=p.baseline, found=p.baseline - 0.01) for p in POINTS]
    text = plain(write(tmp_path / "report.html", replace(REPORT, points=points)))
    assert "Kept are networks from " in text
    assert "from 11.0 ms to 64.0 ms, 3 of them scored elsewhere than by Evolution; " in text
    assert "random search at equal budget reached less accuracy than Evolution itself under 0 of 3 limits." in text
    heading, *body = rows((tmp_path / "report.html").read_text())
    at = heading.index("Strategy\u2019s own")
    assert heading[at + 1] == "Random"
    assert [row[at] for row in body] == [f"{100 * p.found:.2f} %" for p in points]
    points = [replace(p, loss=0.8, baseline_loss=0.8, found=0.7, found_loss=0.9) for p in POINTS[:1]]
    text = plain(write(tmp_path / "report.html", replace(REPORT, points=points, metric="loss")))
    assert "Kept is a network of a loss of 0.8000" in text
    assert "which was scored elsewhere than by Evolution, chosen by their losses" in text
    assert "random search at equal budget reached a lower loss than Evolution itself." in text


def test_table_has_one_row_for_each_limit(tmp_path):
    heading, *body = rows(write(tmp_path / "report.html"))
    assert heading == ["Limit", "Cost", "MACs", "Params", "Predicted", "Inherited", "Random"]
    assert [row[0] for row in body] == ["11.0 ms", "20.0 ms", "64.0 ms"]
    assert body[1] == ["20.0 ms", "19.5 ms", "150 M", "4.20 M", "76.20 %", "75.00 %", "75.50 %", "stage1 k5"]


def test_table_leaves_out_what_is_absent_or_twice_the_same(tmp_path):
    lone = [replace(POINTS[0], accuracy=None), *POINTS[1:]]
    assert [row[5] for row in rows(write(tmp_path / "a.html", replace(REPORT, points=lone)))[1:]] == [
        "\u2013",
        "75.00 %",
        "79.00 %",
    ]
    points = [
        replace(point, limit=point.limit * 1e7, cost=point.macs, predicted=None, baseline=None) for point in POINTS
    ]
    given = replace(REPORT, points=points, cost="macs", scored=[], references=[])
    heading, first, *_ = rows(write(tmp_path / "b.html", given))
    assert heading == ["Limit", "Cost", "Params", "Latency", "Inherited"]
    assert first == ["110 M MACs", "90.0 M", "3.10 M", "10.5 ms", "72.00 %", "stage1 k3"]


def test_a_network_over_its_limit_is_marked(tmp_path):
    assert "over the limit" not in plain(write(tmp_path / "report.html"))
    points = [replace(POINTS[0], cost=11.2), *POINTS[1:]]
    assert "over the limit" in rows(write(tmp_path / "report.html", replace(REPORT, points=points)))[1][-1]


def test_marks_stand_where_the_axes_say(tmp_path):
    drawn = charts(write(tmp_path / "report.html"))
    assert [chart.get("viewBox").split()[2] for chart in drawn] == ["1240", "640"]
    for chart in drawn:
        x, y = scale(chart, "xtick", "x", 0), scale(chart, "ytick", "y", 4)

        def spot(cost, accuracy, x=x, y=y):
            return pytest.approx((x(cost), y(100 * accuracy)), abs=0.4)

        assert centres(chart, "predicted") == [spot(point.cost, point.predicted) for point in POINTS]
        assert centres(chart, "inherited") == [spot(point.cost, point.accuracy) for point in POINTS]
        assert centres(chart, "hollow") == [spot(point.cost, point.baseline) for point in POINTS]
        diamonds = [(x, y + 6.5) for x, y in starts(chart, "diamond")]
        assert diamonds == [spot(known.cost, known.accuracy) for known in REPORT.references]
        assert starts(chart, "cloud") == [spot(cost, accuracy) for cost, accuracy in REPORT.scored]
        lines = [re.findall(r"([\d.]+) ([\d.]+)", node.get("d")) for node in of_class(chart, "curve")]
        assert [[(float(x), float(y)) for x, y in line] for line in lines] == [
            centres(chart, "predicted"),
            centres(chart, "inherited"),
        ]
        assert x(20) > x(11)
        assert y(80) < y(70)


def test_tooltips_hold_the_numbers(tmp_path):
    chart = charts(write(tmp_path / "report.html"))[0]
    tips = [node.text.replace("\u00a0", " ") for node in chart.iter("title")]
    assert "at most 11.0 ms, the network itself 10.5 ms: 73.10 % predicted accuracy" in tips
    assert "at most 64.0 ms, the network itself 62.0 ms: 79.00 % accuracy with inherited weights" in tips
    assert "random search at equal budget, at most 20.0 ms: 75.50 %" in tips
    assert "Known & small: 75.10 % at 15.0 ms" in tips
    assert len(tips) == 3 * len(POINTS) + len(REPORT.references)


def test_labels_name_limits_and_references_inside_the_frame(tmp_path):
    crowd = [Reference(f"Known network {i}", point.cost + 0.3, point.predicted) for i, point in enumerate(POINTS)]
    for chart in charts(write(tmp_path / "report.html", replace(REPORT, references=crowd))):
        labels = of_class(chart, "label") + of_class(chart, "reference")
        expected = ["\u2264 11.0 ms", "\u2264 20.0 ms", "\u2264 64.0 ms", *(known.name for known in crowd)]
        assert [node.text.replace("\u00a0", " ") for node in labels] == expected
        _, _, width, height = map(float, chart.get("viewBox").split())
        boxes = []
        for node in labels:
            x, y, half = float(node.get("x")), float(node.get("y")), 3.5 * len(node.text)
            boxes.append(Box(x - half, y - 11, x + half, y + 3))
        assert all(box.left >= 0 and box.right <= width and box.top >= 0 and box.bottom <= height for box in boxes)
        assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    ("report", "shown", "mark", "text"),
    [
        (without("predicted"), {"inherited", "hollow", "diamond", "cloud"}, "predicted", "predicted accuracy"),
        (without("accuracy"), {"predicted", "hollow", "diamond", "cloud"}, "inherited", "inherited weights"),
        (without("baseline"), {"predicted", "inherited", "diamond", "cloud"}, "hollow", "andom search"),
        (replace(REPORT, references=[]), {"predicted", "inherited", "hollow", "cloud"}, "diamond", "known networks"),
        (replace(REPORT, scored=[]), {"predicted", "inherited", "hollow", "diamond"}, "cloud", "scored candidate"),
    ],
)
def test_absent_series_are_neither_drawn_nor_in_the_legend(tmp_path, report, shown, mark, text):
    full = write(tmp_path / "full.html").split("</style>", 1)[1]
    page = write(tmp_path / "report.html", report).split("</style>", 1)[1]
    assert text in plain(full)
    assert text not in plain(page)
    legend = re.search(r'<div class="legend">(.*?)</div>', page)[1]
    for part in (ElementTree.fromstring(f"<div>{legend}</div>"), *charts(page)):
        assert not of_class(part, mark)
        assert all(of_class(part, name) for name in shown)


def test_a_point_without_a_value_is_left_out_of_its_curve(tmp_path):
    points = [POINTS[0], replace(POINTS[1], accuracy=None, baseline=None), POINTS[2]]
    chart = charts(write(tmp_path / "report.html", replace(REPORT, points=points)))[0]
    assert [len(of_class(chart, name)) for name in ("predicted", "inherited", "hollow")] == [3, 2, 2]


def test_outliers_and_lost_values_of_the_cloud_are_not_drawn(tmp_path):
    scored = [*REPORT.scored, (20.0, 0.01), (30.0, 0.02), (30.0, math.nan)]
    page = write(tmp_path / "report.html", replace(REPORT, scored=scored))
    assert "2 scored candidates lie below this view." in plain(page)
    assert "102 scored candidates" in plain(page)
    assert len(starts(charts(page)[0], "cloud")) == 100
    assert "below this view" not in plain(write(tmp_path / "report.html"))


def test_every_network_with_blocks_has_its_diagram(tmp_path):
    page = write(tmp_path / "report.html", replace(REPORT, points=[*POINTS[:2], replace(POINTS[2], blocks=[])]))
    details = re.findall(r"<details>(.*?)</details>", page, re.S)
    summaries = [plain(re.search(r"<summary>(.*?)</summary>", text, re.S)[1]) for text in details]
    assert summaries == ["at most 11.0 ms 72.00 % accuracy at 10.5 ms", "at most 20.0 ms 75.00 % accuracy at 19.5 ms"]
    assert all(text.count('class="oneshot-arch"') == 2 for text in details)
    page = write(tmp_path / "report.html", replace(REPORT, points=[replace(point, blocks=[]) for point in POINTS]))
    assert "The networks" not in page


def test_hostile_text_stays_text(tmp_path):
    blocks = [replace(block, name=HOSTILE, kind=HOSTILE) for block in make_blocks()]
    points = [replace(point, arch={HOSTILE: HOSTILE}, blocks=blocks) for point in POINTS]
    texts = dict.fromkeys(("title", "space", "data", "strategy", "predictor"), HOSTILE)
    known = [Reference(HOSTILE, 20.0, 0.75)]
    page = write(
        tmp_path / "report.html",
        replace(REPORT, points=points, references=known, facts={HOSTILE: HOSTILE}, notes=[HOSTILE], **texts),
    )
    elements = Elements(page)
    assert not {"img", "script"} & set(elements.tags)
    assert "onerror" not in {name for name, _ in elements.attributes}
    assert "\x00" not in page
    assert elements.text.count("</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&") > 8
    assert charts(page)


def test_one_network_under_two_limits(tmp_path):
    points = [POINTS[0], replace(POINTS[0], limit=12.0)]
    for chart in charts(write(tmp_path / "report.html", replace(REPORT, points=points, scored=[], references=[]))):
        assert len(set(centres(chart, "predicted"))) == 1
        first, second = [(node.get("x"), node.get("y")) for node in of_class(chart, "label")]
        assert first != second


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(1e-3, 1e12), st.floats(0, 1)), min_size=1, max_size=6, unique_by=lambda pair: pair[0])
)
@example([(1.0, 5e-324)])
def test_any_values_stand_inside_the_frame(tmp_path_factory, values):
    points = [replace(POINTS[0], limit=c, cost=c, accuracy=None, baseline=None, predicted=a) for c, a in sorted(values)]
    path = tmp_path_factory.mktemp("any") / "report.html"
    page = write(path, replace(REPORT, points=points, cost="macs", scored=[], references=[]))
    for chart in charts(page):
        _, _, width, height = map(float, chart.get("viewBox").split())
        assert of_class(chart, "xtick")
        assert of_class(chart, "ytick")
        assert all(62 <= x <= width - 26 and 14 <= y <= height - 46 for x, y in centres(chart, "predicted"))


def test_writing_is_atomic_and_repeatable(tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    first = write(path)
    assert write(path) == first

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, replace(REPORT, title="Another"))
    assert path.read_text(encoding="utf-8") == first
    assert os.listdir(path.parent) == ["report.html"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": []}, "at least one point, not 0"),
        ({"points": [POINTS[1], POINTS[0]]}, "rising order of their limits, but 11 follows 20"),
        ({"points": [POINTS[0], POINTS[0]]}, "rising order of their limits, but 11 follows 11"),
        ({"points": [replace(POINTS[0], limit=math.inf)]}, "finite numbers, not inf"),
        ({"points": [replace(POINTS[0], cost=math.nan)]}, "finite numbers, not nan"),
        ({"points": [replace(POINTS[0], predicted=73.1)]}, "fraction from 0 to 1, not 73.1"),
        ({"points": [replace(POINTS[0], accuracy=-0.1)]}, "fraction from 0 to 1, not -0.1"),
        ({"points": [replace(POINTS[0], baseline=math.nan)]}, "fraction from 0 to 1, not nan"),
        ({"points": [replace(POINTS[0], predicted=None, accuracy=None)]}, "neither a predicted nor an inherited"),
        ({"references": [Reference("known", 20.0, 76.0)]}, "fraction from 0 to 1, not 76.0"),
        ({"scored": [(20.0, 76.5)]}, "fraction from 0 to 1, not 76.5"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_tradeoff_report(tmp_path / "report.html", replace(REPORT, **change))
    assert not os.listdir(tmp_path)


ORIGINAL = Candidate({"stage1.kernel": 9}, 0.805, 0.7, 600_000_000, 8_000_000, 65.0)


def test_the_original_has_a_mark_a_row_and_is_what_shares_are_of(tmp_path):
    page = write(tmp_path / "report.html", replace(REPORT, original=ORIGINAL))
    heading, *body = rows(page)
    assert heading[4:7] == ["% of MACs", "% of parameters", "% of latency"]
    assert [row[4] for row in body] == ["15 %", "25 %", "98 %", "100 %"]
    assert body[-1][0] == "original"
    assert body[-1][heading.index("Inherited")] == "80.50 %"
    assert (
        "The original reaches 80.50 % with the same weights; the networks found take 16 % to 95 % of its latency."
        in (plain(page))
    )
    for chart in charts(page):
        ((x, y),) = starts(chart, "square")
        assert (x + 5.5, y + 5.5) == pytest.approx(
            (scale(chart, "xtick", "x", 0)(65.0), scale(chart, "ytick", "y", 4)(80.5)), abs=0.3
        )
    assert "the original" not in plain(write(tmp_path / "without.html")).lower()


def test_fewer_macs_that_are_not_faster_are_told(tmp_path):
    slow = [
        replace(POINTS[0], macs=330_000_000, latency_ms=60.5),
        replace(POINTS[1], macs=540_000_000, latency_ms=64.0),
    ]
    page = plain(write(tmp_path / "report.html", replace(REPORT, points=slow, original=ORIGINAL)))
    assert (
        "55 % of the original's MACs take 93 % of its time on this machine, 90 % take 98 %: cost.max_latency_ms" in page
    )
    assert "of its time" not in plain(write(tmp_path / "fast.html", replace(REPORT, original=ORIGINAL)))
