"""The section about ranking and truth: its table, the data of its chart, and what it refuses."""

import json
import re
from dataclasses import replace

import pytest
from report_builders import HOSTILE, Elements, make_candidates, plain

from oneshot.report import (
    Ranking,
    RankingRow,
    TradeoffPoint,
    TradeoffReport,
    write_search_report,
    write_tradeoff_report,
)


@pytest.fixture
def ranking(report) -> Ranking:
    count = len(report.candidates) + len(report.baseline)
    return Ranking(
        caption="Of all networks.",
        headings=["inherited weights", "MACs"],
        rows=[
            RankingRow("Kendall's tau", [("0.61", "0.55 to 0.66"), ("0.56", "0.49 to 0.61")]),
            RankingRow("lost by taking the first", [("0.20 points", ""), ("0.45 points", "")]),
        ],
        truth=[None if i % 7 == 0 else 0.5 + i / 1000 for i in range(count)],
        others=make_candidates(3, seed=5),
        others_truth=[0.1, 0.2, 0.3],
    )


def write(path, report) -> tuple[str, dict]:
    write_search_report(path, report)
    page = path.read_text(encoding="utf-8")
    return page, json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_table_has_every_figure_of_every_way_to_rank(tmp_path, report, ranking):
    page, _ = write(tmp_path / "report.html", replace(report, ranking=ranking))
    text = re.sub(r"\s+", " ", plain(page))
    assert "Ranking and truth" in text
    assert "Kendall's tau0.61 0.55 to 0.660.56 0.49 to 0.61" in text
    assert "lost by taking the first0.20 points0.45 points" in text
    assert "Of all networks." in text
    assert {"id": "ranking"}.items() <= dict(
        attribute for attribute in Elements(page).attributes if attribute == ("id", "ranking")
    ).items()


def test_the_chart_has_the_truth_of_every_network(tmp_path, report, ranking):
    _, data = write(tmp_path / "report.html", replace(report, ranking=ranking))
    truth = data["ranking"]["truth"]
    assert [*truth["candidates"], *truth["baseline"]] == ranking.truth
    assert len(truth["candidates"]) == len(report.candidates)
    assert truth["others"] == ranking.others_truth
    assert data["ranking"]["others"]["accuracy"] == [candidate.accuracy for candidate in ranking.others]
    names = {choice["name"] for choice in data["choices"]}
    assert all(set(candidate.arch) <= names for candidate in ranking.others)


def test_a_page_without_truth_has_no_such_section(tmp_path, report):
    page, data = write(tmp_path / "report.html", report)
    assert data["ranking"] is None
    assert "Ranking and truth" not in page
    assert 'id="ranking"' not in page


def test_thousands_of_points_stay_small(tmp_path, report):
    candidates = make_candidates(6561, seed=3)
    large = replace(report, candidates=candidates, baseline=[], exhaustive=True, limits={}, front=[0], best=0)
    without, _ = write(tmp_path / "without.html", large)
    ranking = Ranking("", [], [], truth=[round(0.8 + i / 1e5, 6) for i in range(6561)])
    page, _ = write(tmp_path / "with.html", replace(large, ranking=ranking))
    assert len(page) - len(without) < 80_000
    assert "these are all networks within the limits" in plain(page)


def test_hostile_text_stays_text(tmp_path, report, ranking):
    hostile = replace(
        ranking, caption=HOSTILE, headings=[HOSTILE] * 2, rows=[RankingRow(HOSTILE, [(HOSTILE, HOSTILE)] * 2)]
    )
    page, _ = write(tmp_path / "report.html", replace(report, ranking=hostile))
    clean, _ = write(tmp_path / "clean.html", replace(report, ranking=ranking))
    assert "img" not in Elements(page).tags
    assert page.count("<script") == clean.count("<script")


def test_a_page_of_limits_has_the_table_alone(tmp_path, report, ranking):
    point = TradeoffPoint(1e6, {"k": 3}, 9e5, 900_000, 100, None, None, 0.7, None, [])
    page_of = TradeoffReport("t", "s", "d", "x", "", "macs", [point], [], [], {}, [], replace(ranking, truth=[]))
    write_tradeoff_report(tmp_path / "report.html", page_of)
    page = (tmp_path / "report.html").read_text()
    assert "Kendall's tau0.61" in plain(page)
    assert 'id="ranking"' not in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": [0.5]}, "there are 1 true accuracies for 120 candidates"),
        ({"others_truth": [0.5]}, "there are 1 true accuracies for 3 others"),
        ({"headings": ["one"]}, "has 2 cells for 1 headings"),
        ({"others_truth": [0.5, 0.5, 50.0]}, "accuracy is a fraction from 0 to 1, not 50.0"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, report, ranking, change, message):
    with pytest.raises(ValueError, match=message):
        write_search_report(tmp_path / "report.html", replace(report, ranking=replace(ranking, **change)))
