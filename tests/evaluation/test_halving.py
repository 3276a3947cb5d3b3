"""Successive halving: who goes on is decided by the images so far, and whoever comes through has the score of all images."""

from __future__ import annotations

import pytest
from toy_spaces import ToySpace, make_data
from training_runs import CPU

from oneshot.arch import Arch
from oneshot.evaluation import Evaluator, Score, ScoreSettings, SuccessiveHalving
from oneshot.supernet import Supernet

ARCHS = list(ToySpace(resolutions=(6, 8)).enumerate())


class Known(dict[tuple[Arch, int], Score]):
    """Scores of rungs, and how often one is added."""

    num_added = 0

    def get(self, arch: Arch, num_images: int) -> Score | None:  # type: ignore[override]
        return super().get((arch, num_images))

    def add(self, arch: Arch, score: Score) -> None:
        assert (arch, score.num_images) not in self
        self[arch, score.num_images] = score
        self.num_added += 1


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    data = make_data(64, 50, 2)
    supernet = Supernet(ToySpace(resolutions=(6, 8))).eval()
    return Evaluator(supernet, data, ScoreSettings(32, batch_size=8), device=CPU)


def by_loss(score: Score) -> tuple[float, ...]:
    return (-score.loss,)


def halve(evaluator: Evaluator, known: Known, first: int = 12) -> dict[Arch, Score]:
    return dict(SuccessiveHalving(evaluator, first, by_loss, known).scores(ARCHS))


def test_the_better_half_goes_on(evaluator: Evaluator) -> None:
    known = Known()
    found = halve(evaluator, known)
    assert set(found) == set(ARCHS)
    left = ARCHS
    for start, stop in ((0, 12), (12, 24), (24, 48), (48, 50)):
        assert {arch for arch, number in known if number == stop} == set(left)
        part = evaluator.part(start, stop)
        assert len(part.held_out.images) == stop - start
        for arch in left:
            added = part(arch)
            score = known[arch, stop]
            expected = added.loss * (stop - start) + (known[arch, start].loss * start if start else 0.0)
            assert score.num_images == stop
            assert score.loss * stop == pytest.approx(expected, rel=1e-12)
        ranked = sorted(left, key=lambda arch: known[arch, stop].loss)
        if stop < 50:
            left = ranked[: (len(ranked) + 1) // 2]
        for arch in set(ranked) - set(left if stop < 50 else []):
            assert found[arch] == known[arch, stop]
    assert [sum(number == stop for _, number in known) for stop in (12, 24, 48, 50)] == [24, 12, 6, 3]


def test_whoever_comes_through_has_the_score_of_all_images(evaluator: Evaluator) -> None:
    for arch, score in halve(evaluator, Known()).items():
        if score.num_images == 50:
            whole = evaluator(arch)
            assert score.accuracy == pytest.approx(whole.accuracy, rel=1e-12)
            assert score.loss == pytest.approx(whole.loss, rel=1e-6)


def test_all_images_on_the_first_rung_are_plain_scoring(evaluator: Evaluator) -> None:
    found = halve(evaluator, Known(), first=1000)
    assert found == dict(evaluator.scores(ARCHS))


def test_halving_that_was_stopped_decides_as_it_would_have(evaluator: Evaluator) -> None:
    whole = Known()
    expected = halve(evaluator, whole)
    for stop in (5, 24, 30, 40):
        known = Known()
        for (arch, _), score in list(whole.items())[:stop]:
            known.add(arch, score)
        assert halve(evaluator, known) == expected
        assert known.num_added == len(whole)


def test_parts_are_drawn_at_random_and_are_all_images_together(evaluator: Evaluator) -> None:
    held_out = evaluator.held_out.images
    parts = [evaluator.part(start, stop).held_out.images for start, stop in ((0, 20), (20, 50))]

    def listed(images: object) -> list[bytes]:
        batches = images.batches([[i] for i in range(len(images))])  # type: ignore
        return [pixels.numpy().tobytes() for pixels, _ in batches]

    assert sorted(listed(parts[0]) + listed(parts[1])) == sorted(listed(held_out))
    assert listed(parts[0]) != listed(held_out)[:20]


def test_a_first_rung_of_no_images_is_refused(evaluator: Evaluator) -> None:
    with pytest.raises(ValueError, match=r"^the first rung has at least 1 image, not 0$"):
        SuccessiveHalving(evaluator, 0, by_loss, Known())
