"""Witnesses on a page: what each counts, and how far they agree."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from oneshot.report import SearchReport, Witnesses, WitnessRow, write_search_report
from oneshot.report.payload import search_payload
from oneshot.report.tables import render_candidate_table, top_candidates
from oneshot.report.verdict import best_of_baseline, render_tiles, render_verdict

WITNESSES = Witnesses(
    "Over 500 networks.",
    [WitnessRow("MACs", "size", None, 0.5, 0.75), WitnessRow("<loss>", "supernet", 0.9, None, 0.25)],
    [[1.0, -0.4], [-0.4, 1.0]],
)


def test_the_section_has_a_row_for_each_witness(report: SearchReport, tmp_path: Path) -> None:
    write_search_report(tmp_path / "page.html", replace(report, witnesses=WITNESSES))
    page = (tmp_path / "page.html").read_text()
    section = page[page.index("Do the witnesses agree?") :]
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)[1:3]
    cells = [re.sub(r"<[^>]*>", " ", row).split() for row in rows]
    assert cells[0] == ["1", "MACs", "size", "\u2013", "0.50", "75", "%", "-0.40"]
    assert cells[1] == ["2", "&lt;loss&gt;", "supernet", "0.90", "\u2013", "25", "%", "-0.40"]
    assert "against" in rows[0]
    assert "Over 500 networks." in section
    write_search_report(tmp_path / "plain.html", report)
    assert "Do the witnesses agree?" not in (tmp_path / "plain.html").read_text()


def test_weights_are_left_out_where_nothing_is_weighed(report: SearchReport, tmp_path: Path) -> None:
    rows = [replace(row, weight=None) for row in WITNESSES.rows]
    write_search_report(tmp_path / "page.html", replace(report, witnesses=replace(WITNESSES, rows=rows)))
    assert ">Weight</th>" not in (tmp_path / "page.html").read_text()


def test_what_was_chosen_otherwise_is_not_measured_by_the_metric(report: SearchReport) -> None:
    """A lead in accuracy over random search is no success where accuracy did not decide."""
    chosen = replace(report, chosen_by="all witnesses together", rival=3)
    verdict = render_verdict(chosen)
    assert "chosen by <strong>all witnesses together</strong>" in verdict
    assert "of 60 evaluations of random search, the one chosen alike has" in verdict
    assert "against random search" in render_tiles(report)
    assert "best accuracy" in render_tiles(report)
    assert "accuracy of the chosen" in render_tiles(chosen)
    assert "against random search" not in render_tiles(chosen)
    assert "the scores say nothing about how it compares" in render_verdict(replace(chosen, rival=None))


def test_what_was_scored_elsewhere_is_not_the_strategys_success(report: SearchReport, tmp_path: Path) -> None:
    """It is kept and shown; the comparison with random search is of what the strategy itself found."""
    better = replace(report.candidates[report.best], accuracy=0.99)
    kept = replace(report, candidates=[*report.candidates, better], best=60, found=report.best)
    before, _, after = render_verdict(kept).partition(" Kept is a network that was scored elsewhere, with <strong>")
    assert before == render_verdict(report)
    assert after.startswith("99.00")
    of_random = replace(kept, baseline=[*report.baseline[:-1], better])
    assert re.search(r"did better: 99\.00.*MACs\); that network is kept\.$", render_verdict(of_random))
    tiles, own = render_tiles(kept), render_tiles(report)
    assert "<b>99.00" in tiles
    assert "scored elsewhere; the best of the strategy\u2019s 60 evaluations is " in tiles
    led = re.search(r"against random search</span><b>([^<]*)</b>", own)
    assert led is not None
    assert f"against random search</span><b>{led[1]}</b><small>the strategy\u2019s own " in tiles
    row = render_candidate_table(kept, [60])
    assert ">\u2013</td>" in row  # in place of the number of its evaluation
    assert ">61</td>" not in row
    assert ">60</td>" in render_candidate_table(kept, [59])
    payload = search_payload(kept)
    assert payload["best"] == 60
    assert payload["progress"] == search_payload(report)["progress"]
    with pytest.raises(ValueError, match="the last of 61 candidates is kept then"):
        write_search_report(tmp_path / "page.html", replace(kept, best=0))


def test_what_was_scored_on_some_images_is_not_compared(report: SearchReport) -> None:
    """Successive halving stops most networks early; a lucky accuracy of few images is no best."""
    lucky = replace(report.candidates[report.best], accuracy=0.99, is_whole=False)
    some = replace(report, candidates=[*report.candidates[:-1], lucky], baseline=[lucky, *report.baseline[1:]])
    known = replace(report, candidates=report.candidates[:-1], baseline=report.baseline[1:])
    assert best_of_baseline(some) == best_of_baseline(known)
    assert search_payload(some)["progress"]["candidates"][-1] == report.best  # type: ignore[index]
    assert top_candidates(some, 10) == top_candidates(known, 10)
    assert top_candidates(some, 60)[0] == report.best


@pytest.mark.parametrize(
    ("correlations", "message"),
    [
        ([[1.0]], "correlations of 2 witnesses are 2 lists of 2 numbers"),
        ([[1.0, 1.5], [1.5, 1.0]], r"a correlation lies between -1 and 1, not at 1\.5"),
        ([[1.0, float("nan")], [0.0, 1.0]], "not at nan"),
    ],
)
def test_correlations_that_are_none_are_refused(
    report: SearchReport, correlations: list[list[float]], message: str, tmp_path: Path
) -> None:
    wrong = replace(report, witnesses=replace(WITNESSES, correlations=correlations))
    with pytest.raises(ValueError, match=message):
        write_search_report(tmp_path / "page.html", wrong)
    with pytest.raises(ValueError, match="rival is 60, but the baseline holds 60 candidates"):
        write_search_report(tmp_path / "page.html", replace(report, rival=60))
