"""Scores image by image, and whether they tell candidates apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from oneshot.evaluation import evaluate, image_scores, lead_of_first


def test_scores_of_images_add_up_to_the_score() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    batches = [(torch.randn(size, 3, 2, 2), torch.randint(4, (size,))) for size in (5, 5, 3)]
    correct, losses = image_scores(module, batches)
    score = evaluate(module, iter(batches))
    assert correct.shape == losses.shape == (13,)
    assert correct.mean() == pytest.approx(score.accuracy)
    assert losses.mean() == pytest.approx(score.loss)
    images, labels = batches[1]
    assert correct[5:10].tolist() == (module(images).argmax(1) == labels).double().tolist()


def test_the_interval_is_that_of_the_difference() -> None:
    """Against the standard error of paired differences, which is far below that of unpaired ones here."""
    rng = np.random.default_rng(0)
    easy = (rng.random(2000) < 0.7).astype(float)
    second = easy.copy()
    second[:40] = 0.0
    (same, lead) = lead_of_first(np.stack([easy, second]))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    difference = easy - second
    error = difference.std() / math.sqrt(2000)
    assert lead.value == pytest.approx(difference.mean())
    assert lead.high - lead.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert lead.low > 0


def test_too_few_images_do_not_tell() -> None:
    scores = np.array([[1, 1, 1, 0, 1, 1, 0, 1.0], [1, 1, 0, 0, 1, 1, 0, 1.0]])
    lead = lead_of_first(scores)[1]
    assert lead.value == 1 / 8
    assert lead.low == 0.0


def test_the_seed_decides_and_parts_do_not() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 3000))
    assert lead_of_first(scores, seed=1) == lead_of_first(scores, seed=1)
    assert lead_of_first(scores, seed=1) != lead_of_first(scores, seed=2)
    one, two = (lead_of_first(scores, num_resamples=number)[1] for number in (100, 4000))
    assert one.value == two.value
    assert one.low == pytest.approx(two.low, abs=0.02)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (4,)])
def test_nothing_to_compare_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one candidate on at least one image"):
        lead_of_first(np.zeros(shape))


def test_a_single_image_has_no_interval() -> None:
    (same, lead) = lead_of_first(np.array([[1.0], [0.0]]))
    assert (lead.value, lead.low, lead.high) == (1.0, 1.0, 1.0)
    assert same.high == 0.0
