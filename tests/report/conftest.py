"""A small search with a limit, a baseline and a network: what most report tests start from."""

import pytest
from report_builders import make_blocks, make_candidates

from oneshot.report import SearchReport
from oneshot.report.selection import best_so_far, pareto_front

LIMITS = {"max_macs": 5e6}


@pytest.fixture
def report() -> SearchReport:
    candidates = make_candidates(60, seed=1)
    best = best_so_far(candidates, "accuracy", LIMITS)[-1]
    assert best is not None
    return SearchReport(
        title="A search",
        space="small space",
        data="held-out images",
        strategy="Evolution",
        metric="accuracy",
        cost="macs",
        limits=LIMITS,
        candidates=candidates,
        baseline=make_candidates(60, seed=2),
        front=pareto_front(candidates, "macs", "accuracy", LIMITS),
        best=best,
        blocks=make_blocks(),
        facts={"seed": "0"},
        notes=["The ranking is of shared weights."],
    )
