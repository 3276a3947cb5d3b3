"""The page of a search: what it says, what it carries, and what it survives."""

import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from report_builders import HOSTILE, Elements, make_blocks, make_candidates, plain

from oneshot.report import Block, Candidate, SearchReport, write_search_report
from oneshot.report.tables import top_candidates


def write(path: Path, report: SearchReport) -> tuple[str, dict]:
    write_search_report(path, report)
    page = path.read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert match
    return page, json.loads(match[1])


def decode(data: dict, part: str) -> list[Candidate]:
    columns = data[part]
    candidates = []
    for i, row in enumerate(columns["arch"]):
        pairs = zip(data["choices"], row, strict=True)
        arch = {choice["name"]: choice["values"][number] for choice, number in pairs if number >= 0}
        rest = {name: columns[name][i] for name in ("accuracy", "loss", "macs", "params", "latency_ms")}
        candidates.append(Candidate(arch, **rest))
    return candidates


def test_page_is_self_contained(tmp_path, report):
    page, _ = write(tmp_path / "report.html", report)
    assert set(re.findall(r"[a-z]+://[^\s\"'<>)]+", page)) == {"http://www.w3.org/2000/svg"}
    elements = Elements(page)
    assert not {"link", "iframe", "object", "base"} & set(elements.tags)
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in elements.attributes}
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")


def test_data_holds_the_candidates(tmp_path, report):
    _, data = write(tmp_path / "report.html", report)
    assert decode(data, "candidates") == list(report.candidates)
    assert decode(data, "baseline") == list(report.baseline)


def test_the_ten_best_are_those_by_the_combined_value_where_there_is_one(tmp_path, report):
    page, _ = write(tmp_path / "report.html", report)
    assert "All witnesses" not in page
    values = [float(-index) for index in range(len(report.candidates))]
    ranked = [replace(one, combined=value) for one, value in zip(report.candidates, values, strict=True)]
    given = replace(report, candidates=ranked, limits={})
    assert top_candidates(given, 10) == list(range(10))
    page, _ = write(tmp_path / "report.html", given)
    assert page.count("All witnesses</button>") == 2
    assert "by what all witnesses together give" in page


def test_of_equal_candidates_the_chosen_one_is_listed_first(report):
    alike = [replace(one, accuracy=0.5, loss=1.0) for one in report.candidates[:6]]
    given = replace(report, candidates=alike, limits={}, best=4, front=[4])
    assert top_candidates(given, 10) == [4, 0, 1, 2, 3, 5]


def test_choices_keep_their_types(tmp_path, report):
    values = [True, 1, 1.5, "1", False, 0]
    candidates = [replace(report.candidates[0], arch={"choice": value}) for value in values]
    _, data = write(tmp_path / "report.html", replace(report, candidates=candidates, front=[0], best=0))
    decoded = [candidate.arch["choice"] for candidate in decode(data, "candidates")]
    assert [(type(value), value) for value in decoded] == [(type(value), value) for value in values]


def test_drawn_front_is_the_front_of_the_axes(tmp_path, report):
    shuffled = replace(report, front=list(reversed(report.front)))
    _, data = write(tmp_path / "report.html", shuffled)
    assert data["costs"] == ["macs", "params", "latency_ms"]
    for cost in data["costs"]:
        for metric in ("accuracy", "loss"):
            drawn = [report.candidates[number] for number in data["fronts"][cost][metric]]
            allowed = [one for one in report.candidates if one.macs <= 5e6 and getattr(one, cost) is not None]
            sign = 1 if metric == "accuracy" else -1

            def beats(one, other, cost=cost, metric=metric, sign=sign):
                price, value = getattr(one, cost), sign * getattr(one, metric)
                other_price, other_value = getattr(other, cost), sign * getattr(other, metric)
                return price <= other_price and value >= other_value and (price, value) != (other_price, other_value)

            front = [one for one in allowed if not any(beats(other, one) for other in allowed)]
            assert sorted(front, key=lambda one, cost=cost: getattr(one, cost)) == drawn
            assert 1 < len(drawn) < len(allowed)


def test_progress_is_the_best_so_far(tmp_path, report):
    _, data = write(tmp_path / "report.html", report)
    for part, candidates in (("candidates", report.candidates), ("baseline", report.baseline)):
        found = [one.accuracy if one.macs <= report.limits["max_macs"] else -1.0 for one in candidates]
        best = [max(found[: number + 1]) for number in range(len(found))]
        assert data["progress"][part] == [None if value < 0 else found.index(value) for value in best]
        assert len(set(best)) > 2
        over = {i for i, candidate in enumerate(candidates) if candidate.macs > report.limits["max_macs"]}
        assert set(data[part]["over"]) == over
        assert over


def test_verdict_compares_with_random_search_at_the_same_limit(tmp_path, report):
    best = Candidate({"k": 3}, 0.75, 1.0, 4_200_000, 900_000, None)
    random_best = replace(best, accuracy=0.7312, macs=4_900_000)
    too_large = replace(best, accuracy=0.99, macs=6_000_000)
    given = replace(report, candidates=[best], front=[0], best=0, baseline=[too_large, random_best])
    text = plain(write(tmp_path / "report.html", given)[0])
    assert "Evolution found 75.00 % accuracy at 4.20 M MACs in 1 evaluation; random search with 2 evaluations" in text
    assert "reached 73.12 % at 4.90 M MACs within the same limit (at most 5.00 M MACs)." in text
    assert "+1.88 points" in text
    worse = replace(given, baseline=[replace(random_best, accuracy=0.76)])
    text = plain(write(tmp_path / "report.html", worse)[0])
    assert "did better: 76.00 %" in text
    assert "-1.00 points" in text


def test_verdict_says_when_the_best_breaks_the_limit(tmp_path, report):
    given = replace(report, limits={"max_params": 10}, front=[0], best=0)
    text = plain(write(tmp_path / "report.html", given)[0])
    assert "outside the limit (at most 10 params); random search" in text
    assert "found nothing within the same limit." in text


def test_verdict_by_loss(tmp_path, report):
    text = plain(write(tmp_path / "report.html", replace(report, metric="loss", best=3, limits={}))[0])
    assert f"a loss of {report.candidates[3].loss:.4f}" in text
    assert "outside the limit" not in text


def test_tables_list_the_front_and_the_ten_best_within_the_limits(tmp_path, report):
    page, _ = write(tmp_path / "report.html", report)
    front, top = [
        [int(index) for index in re.findall(r'<tr data-index="(\d+)"', body)]
        for body in re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    ]
    assert front == sorted(report.front, key=lambda i: report.candidates[i].macs)
    allowed = [i for i, candidate in enumerate(report.candidates) if candidate.macs <= 5e6]
    assert top == sorted(allowed, key=lambda i: -report.candidates[i].accuracy)[:10]


def test_hostile_text_stays_text(tmp_path, report):
    clean_page, _ = write(tmp_path / "clean.html", report)
    name = HOSTILE
    candidates = [replace(candidate, arch={name: name, f"{name}.a": 3}) for candidate in report.candidates]
    blocks = [
        replace(block, name=name, kind=name, options={name: name} if block.options else {}) for block in make_blocks()
    ]
    hostile = replace(
        report,
        title=name,
        space=name,
        data=name,
        strategy=name,
        candidates=candidates,
        blocks=blocks,
        facts={name: name},
        notes=[name],
        limits={"max_macs": 5e6, name: 1},
    )
    page, data = write(tmp_path / "hostile.html", hostile)
    assert "img" not in Elements(page).tags
    assert page.count("<script") == clean_page.count("<script")
    assert page.count("</script") == clean_page.count("</script")
    assert "\x00" not in page
    assert data["strategy"] == name
    assert decode(data, "candidates") == candidates
    assert "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&" in plain(page)


def test_one_candidate_and_nothing_else(tmp_path, report):
    lone = replace(
        report, candidates=report.candidates[:1], baseline=[], front=[0], best=0, blocks=[], facts={}, notes=[]
    )
    page, data = write(tmp_path / "report.html", replace(lone, limits={}))
    assert "there is no random search to compare with." in plain(page)
    assert "The chosen network" not in page
    assert data["progress"] == {"candidates": [0], "baseline": []}


def test_equal_candidates(tmp_path, report):
    equal = [report.candidates[0]] * 5
    given = replace(report, candidates=equal, baseline=equal, front=[0], best=0)
    page, data = write(tmp_path / "report.html", replace(given, limits={}))
    assert "reached exactly the same" in plain(page)
    assert data["fronts"]["params"]["loss"] == [0]
    assert data["progress"]["candidates"] == [0] * 5


def test_without_latency(tmp_path, report):
    candidates = [replace(candidate, latency_ms=None) for candidate in report.candidates]
    page, data = write(tmp_path / "report.html", replace(report, candidates=candidates))
    assert data["costs"] == ["macs", "params"]
    assert "Latency" not in page


def test_numbers_that_are_not_finite(tmp_path, report):
    broken = replace(report.candidates[1], accuracy=math.nan, loss=math.inf, latency_ms=math.nan)
    candidates = [report.candidates[0], broken]
    given = replace(report, candidates=candidates, front=[0], best=0, limits={"max_macs": math.inf})
    page, data = write(tmp_path / "report.html", given)
    assert data["candidates"]["accuracy"][1] is None
    assert data["candidates"]["loss"][1] is None
    assert data["fronts"]["params"]["accuracy"] == [0]
    assert "not finite" in page
    assert "within the same limit" not in page


def test_two_thousand_candidates_of_sixty_choices(tmp_path, report):
    operations = ["inverted_residual_k3_e6", "inverted_residual_k5_e3", "identity", "max_pool_3x3"]
    candidates = [
        Candidate({f"stage{n // 12}.block{n % 12}.operation": operations[(i * n + i) % 4] for n in range(60)}, *rest)
        for i in range(2000)
        for rest in [(i / 2123, 1 - i / 3123, 10**9 + i, 10**6 + i, 1 + i / 777)]
    ]
    best = len(candidates) - 1
    given = replace(report, candidates=candidates, baseline=candidates, front=[0, best], best=best, limits={})
    page, data = write(tmp_path / "report.html", replace(given, blocks=make_blocks(60)))
    assert len(page.encode()) < 2_000_000
    assert decode(data, "candidates") == candidates
    groups = {group["name"]: group["kinds"] for group in data["groups"]}
    assert list(groups) == [f"stage{n}" for n in range(5)]
    assert groups["stage1"] == [{"name": "operation", "columns": list(range(12, 24))}]


def test_writing_is_atomic_and_repeatable(tmp_path, report, monkeypatch):
    path = tmp_path / "new" / "report.html"
    first, _ = write(path, report)
    assert write(path, report)[0] == first

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_search_report(path, replace(report, title="Another"))
    assert path.read_text(encoding="utf-8") == first
    assert os.listdir(path.parent) == ["report.html"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": [], "front": [], "best": 0}, "at least one candidate, not 0"),
        ({"best": 60}, "best holds 60, but there are 60 candidates: allowed are 0 to 59"),
        ({"front": [3, -1]}, "front holds -1"),
        ({"baseline": [Candidate({}, 75.0, 1.0, 1, 1, None)]}, "fraction from 0 to 1, not 75.0"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, report, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_search_report(tmp_path / "report.html", replace(report, **change))
    assert not os.listdir(tmp_path)


def test_a_first_axis_without_values_is_refused(tmp_path, report):
    candidates = [replace(candidate, latency_ms=None) for candidate in make_candidates(3, seed=0)]
    given = replace(report, candidates=candidates, front=[0], best=0, cost="latency_ms")
    with pytest.raises(ValueError, match="cost is 'latency_ms', but the best candidate has none"):
        write_search_report(tmp_path / "report.html", given)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to parse JavaScript")
def test_script_is_valid_javascript(tmp_path, report):
    page, _ = write(tmp_path / "report.html", report)
    script = tmp_path / "script.js"
    script.write_text(page.rsplit("<script>", 1)[1].split("</script>")[0], encoding="utf-8")
    result = subprocess.run(["node", "--check", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_features_only_network(tmp_path, report):
    blocks = [Block("layer1", "Linear", {"width": 64}, (10,), (64,), 640, 704)]
    page, _ = write(tmp_path / "report.html", replace(report, blocks=blocks))
    assert "1 block, 640 MACs, 704 params, input 10" in plain(page)


def test_the_original_stands_in_the_tables_the_charts_and_the_tiles(tmp_path, report):
    best = report.candidates[report.best]
    original = replace(best, accuracy=best.accuracy + 0.01, macs=2 * best.macs, latency_ms=40.0)
    page, data = write(tmp_path / "report.html", replace(report, original=original))
    assert data["original"]["accuracy"] == [original.accuracy]
    assert page.count('<tr><td class="number" data-value="nan">') == 2
    text = plain(page)
    assert "against the original-1.00 points" in text
    assert "50 % of MACs" in text
    assert "% of latency" in text
    assert not write(tmp_path / "without.html", report)[1]["original"]["accuracy"]


def test_a_cost_that_few_candidates_have_is_no_axis(tmp_path, report):
    few = [
        replace(candidate, latency_ms=3.0 if i == report.best else None)
        for i, candidate in enumerate(report.candidates)
    ]
    page, data = write(tmp_path / "report.html", replace(report, candidates=few))
    assert data["costs"] == ["macs", "params"]
    assert "3.00 ms" in plain(page)
