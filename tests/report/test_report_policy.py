"""The heat map of a sampling policy: every probability in its place and colour, and a page that stays small."""

import itertools
import json
import math
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest
from report_builders import HOSTILE, Elements, plain

from oneshot.report import Curve, PolicyHistory, write_training_report
from oneshot.report.page import read_asset
from oneshot.report.policy_layout import ROW, arrange_panels, shown_columns

OPERATIONS = ["conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3"]
NAN = math.nan


def history(choices: dict[str, list[str]], num_steps: int, seed: int = 0, missing: float = 0.0) -> PolicyHistory:
    generator = random.Random(seed)
    probabilities = {}
    for choice, options in choices.items():
        rows = {option: [] for option in options}
        for _ in range(num_steps):
            weights = [generator.random() ** 3 for _ in options]
            lost = generator.random() < missing
            for option, weight in zip(options, weights, strict=True):
                rows[option].append(NAN if lost else weight / sum(weights))
        probabilities[choice] = rows
    return PolicyHistory(range(0, 100 * num_steps, 100), probabilities)


def enas_macro() -> dict[str, list[str]]:
    choices = {}
    for layer in range(1, 13):
        choices[f"layer{layer}.operation"] = OPERATIONS
        choices |= {f"layer{layer}.skip{source}": ["False", "True"] for source in range(1, layer)}
    return choices


def ofa() -> dict[str, list[str]]:
    choices = {"resolution": ["128", "160", "192"]}
    for stage in range(1, 6):
        choices[f"stage{stage}.depth"] = ["2", "3", "4"]
        for block in range(1, 5):
            choices[f"stage{stage}.block{block}.kernel"] = ["3", "5", "7"]
            choices[f"stage{stage}.block{block}.expand"] = ["3", "4", "6"]
    return choices


FOUR = {f"cell{i}": ["none", "skip_connect", "conv_1x1", "conv_3x3"] for i in range(1, 5)}
SPACES = pytest.mark.parametrize("choices", [FOUR, enas_macro(), ofa()], ids=["four", "enas_macro", "ofa"])


def write(path, policy, **options):
    given = {"title": "A run", "groups": {"loss": [Curve("train", [1], [1.0])]}, "facts": {}} | options
    write_training_report(path, policy=policy, **given)
    page = path.read_text(encoding="utf-8")
    match = re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)
    assert match
    return page, json.loads(match[1]).get("policy")


def drawings(page: str, style: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(rf'<svg class="{style}".*?</svg>', page, re.DOTALL)]


def drawn_levels(cells: ElementTree.Element) -> dict[tuple[float, int], int]:
    """The level of colour at the top of each row and each column."""
    levels = {}
    for path in cells.iter("path"):
        level = int(path.get("class").removeprefix("heat"))
        assert float(path.get("stroke-width")) == ROW
        for column, middle, length in re.findall(r"M(\d+) ([\d.]+)h(\d+)", path.get("d")):
            for i in range(int(length)):
                place = float(middle) - ROW / 2, int(column) + i
                assert place not in levels
                levels[place] = level
    return levels


@SPACES
@pytest.mark.parametrize("num_steps", [1, 2, 90, 400])
def test_every_cell_has_the_colour_of_its_probability(tmp_path, choices, num_steps):
    given = history(choices, num_steps, missing=0.1)
    page, data = write(tmp_path / "run.html", given)
    columns = [given.steps.index(step) for step in data["steps"]]
    seen = []
    for cells, rows in zip(drawings(page, "cells"), data["panels"], strict=True):
        levels = drawn_levels(cells)
        expected = {}
        for row in rows:
            seen.append((row["choice"], row["option"]))
            values = [given.probabilities[row["choice"]][row["option"]][i] for i in columns]
            for column, (value, stored) in enumerate(zip(values, row["values"], strict=True)):
                assert (stored is None) == math.isnan(value)
                if stored is not None:
                    assert stored / 10_000 == pytest.approx(value, abs=1e-4)
                    expected[row["top"], column] = min(15, int(16 * value))
        assert levels == expected
        assert [int(float(size)) for size in cells.get("viewBox").split()[2:]] == [len(columns), rows[-1]["top"] + ROW]
    shown = [(name, option) for name, options in choices.items() for option in options if option not in ("False",)]
    assert sorted(seen) == sorted(shown)


def test_the_strongest_options_at_the_end_are_bold(tmp_path):
    given = PolicyHistory(
        [1, 2], {"near": {"a": [0.3, 0.334], "b": [0.7, 0.333], "c": [0.0, 0.333]}, "gone": {"d": [1.0, NAN]}}
    )
    page, _ = write(tmp_path / "run.html", given)
    bold = [
        text.text for svg in drawings(page, "names") for text in svg.iter("text") if "strongest" in text.get("class")
    ]
    assert bold == ["a"]


def test_what_is_not_a_number_is_left_empty(tmp_path):
    given = PolicyHistory([1, 2, 3], {"choice": {"a": [0.0, NAN, 1.0], "b": [1.0, NAN, 0.0]}})
    page, data = write(tmp_path / "run.html", given)
    assert [row["values"] for row in data["panels"][0]] == [[0, None, 10_000], [10_000, None, 0]]
    assert drawn_levels(drawings(page, "cells")[0]) == {(0, 0): 0, (0, 2): 15, (ROW, 0): 15, (ROW, 2): 0}


def test_rounding_is_forgiven_and_the_improbable_is_not_zero(tmp_path):
    given = PolicyHistory([1], {"choice": {"a": [1.00001], "b": [-0.00001], "c": [1e-9]}})
    _, data = write(tmp_path / "run.html", given)
    assert [row["values"] for row in data["panels"][0]] == [[10_000], [0], [1]]


@pytest.mark.parametrize(("num_steps", "shown"), [(1, 1), (2, 2), (160, 160), (161, 160), (5000, 160)])
def test_columns_are_thinned_evenly(tmp_path, num_steps, shown):
    given = history({"choice": ["a", "b"]}, num_steps)
    columns = shown_columns(given)
    assert len(columns) == shown == len(set(columns))
    assert (columns[0], columns[-1]) == (0, num_steps - 1)
    apart = [b - a for a, b in itertools.pairwise(columns)]
    assert not apart or max(apart) - min(apart) <= 1
    page, data = write(tmp_path / "run.html", given)
    assert data["steps"] == [100 * i for i in columns]
    assert (f"160 of {num_steps:,} recorded steps are shown" in plain(page)) == (num_steps > 160)


@SPACES
def test_the_page_stays_small(tmp_path, choices):
    without, nothing = write(tmp_path / "without.html", None)
    page, data = write(tmp_path / "run.html", history(choices, 600))
    assert nothing is None
    num_rows = sum(len(rows) for rows in data["panels"])
    assert num_rows * len(data["steps"]) <= 20_000
    # Pure noise is the worst case: no two cells side by side are alike.
    assert len(page.encode()) - len(without.encode()) < 500_000


def test_steps_are_put_in_order(tmp_path):
    given = PolicyHistory([30, 10, 20], {"choice": {"a": [0.3, 0.1, 0.2], "b": [0.7, 0.9, 0.8]}})
    _, data = write(tmp_path / "run.html", given)
    assert data["steps"] == [10, 20, 30]
    assert data["panels"][0][0]["values"] == [1000, 2000, 3000]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["False", "True"], ["True"]),
        (["True", "False"], ["True"]),
        (["no", "yes"], ["yes"]),
        (["True"], ["True"]),
        (["False"], ["False"]),
        (["True", "maybe"], ["True", "maybe"]),
        (["0", "1"], ["0", "1"]),
    ],
)
def test_a_boolean_choice_has_one_row(options, rows):
    given = history({"choice": options}, 3)
    (panel,) = arrange_panels(given, [0, 1, 2])
    (band,) = panel.bands
    assert [row.option for row in band.rows] == rows
    assert band.rows[0].values == tuple(given.probabilities["choice"][rows[0]])


def test_like_choices_share_a_panel():
    panels = arrange_panels(history(ofa(), 2), [0, 1])
    assert [panel.name for panel in panels] == ["", "depth", "kernel", "kernel (cont.)", "expand", "expand (cont.)"]
    assert [band.name for band in panels[1].bands] == [f"stage{i}" for i in range(1, 6)]
    assert panels[2].bands[0].name == "stage1.block1"
    panels = arrange_panels(history(enas_macro(), 2), [0, 1])
    assert [panel.name for panel in panels] == ["operation", "operation (cont.)", "skip", "skip (cont.)"]
    assert [band.name for band in panels[2].bands[:3]] == ["layer2.skip1", "layer3.skip1", "layer3.skip2"]
    assert all(band.single for panel in panels[2:] for band in panel.bands)
    for panel in panels:
        assert sum(len(band.rows) for band in panel.bands) <= 40


@SPACES
def test_labels_are_inside_and_do_not_overlap(tmp_path, choices):
    page, data = write(tmp_path / "run.html", history(choices, 20))
    gutters = set()
    for names, rows in zip(drawings(page, "names"), data["panels"], strict=True):
        wide, tall = float(names.get("width")), float(names.get("height"))
        gutters.add(wide)
        spans: dict[float, list[tuple[float, float]]] = {}
        for text in names.iter("text"):
            extent = (6.6 if text.get("class") == "choice" else 6.0) * len(text.text)
            right = float(text.get("x")) if text.get("text-anchor") == "end" else float(text.get("x")) + extent
            assert right - extent >= 0
            assert right <= wide
            assert 8 <= float(text.get("y")) <= tall
            spans.setdefault(float(text.get("y")), []).append((right - extent, right))
        assert sorted(spans) == pytest.approx([row["top"] + ROW - 2.5 for row in rows])
        for line in spans.values():
            assert all(a[1] <= b[0] for a, b in zip(sorted(line), sorted(line)[1:], strict=False))
    # The time axes of all panels start below one another.
    assert len(gutters) == 1


def test_ticks_are_round_steps_at_their_columns(tmp_path):
    steps = [0, 10, 20, 30, 40, 1000]
    given = PolicyHistory(steps, {"choice": {"a": [0.5] * 6, "b": [0.5] * 6}})
    page, _ = write(tmp_path / "run.html", given)
    (ticks,) = drawings(page, "ticks")
    places = {text.text: float(text.get("x").rstrip("%")) for text in ticks.iter("text")}
    assert {"0", "1,000"} <= set(places)
    assert places["0"] == pytest.approx(100 * 0.5 / 6, abs=0.01)
    assert places["1,000"] == pytest.approx(100 * 5.5 / 6, abs=0.01)
    assert sorted(places.values()) == list(places.values())


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("mode", "sign"), [(0, -1), (1, 1)], ids=["light", "dark"])
def test_the_scale_rises_and_zero_is_not_empty(mode, sign):
    def colours(name: str, style: str) -> list[str]:
        return re.findall(rf"--{name}: (#\w{{6}})", style.split("@media (prefers-color-scheme: dark)")[mode])

    scale = [colour for i in range(16) for colour in colours(f"heat{i}", read_asset("policy.css"))]
    assert len(scale) == 16
    (surface,) = colours("surface", read_asset("report.css"))
    light = [luminance(colour) for colour in [surface, *scale]]
    assert all(sign * (b - a) > 0 for a, b in itertools.pairwise(light))
    low, high = sorted((light[0], light[-1]))
    assert (high + 0.05) / (low + 0.05) > 10


def test_hostile_names_stay_text(tmp_path):
    clean, _ = write(tmp_path / "clean.html", history({"choice": ["a", "b"]}, 2))
    page, data = write(tmp_path / "run.html", history({HOSTILE: [HOSTILE, "b"]}, 2))
    assert Elements(page).tags == Elements(clean).tags
    assert data["panels"][0][0]["choice"] == HOSTILE


def test_a_page_without_a_policy_is_as_before(tmp_path):
    page, data = write(tmp_path / "run.html", None)
    assert data is None
    assert 'class="policy"' not in page
    assert "--heat0" not in page


@pytest.mark.parametrize(
    "given", [PolicyHistory([], {}), PolicyHistory([], {"a": {"b": []}}), PolicyHistory([1], {"a": {}})]
)
def test_nothing_recorded(tmp_path, given):
    page, data = write(tmp_path / "run.html", given)
    assert "Nothing was recorded." in plain(page)
    assert data["panels"] == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5], "option 'a' of choice 'c' has 1 probabilities for 2 steps"),
        ([0.5, 1.2], "option 'a' of choice 'c' has probability 1.2 at step 20; allowed are 0 to 1, and NaN"),
        ([-0.5, 0.5], "has probability -0.5 at step 10"),
        ([math.inf, 0.5], "has probability inf at step 10"),
    ],
)
def test_what_is_no_probability_is_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write(tmp_path / "run.html", PolicyHistory([10, 20], {"c": {"a": values}}))
    assert not list(tmp_path.iterdir())
