"""Stratified splits: proportions, disjointness, determinism, and what is refused."""

import pytest
import torch

from oneshot.data.splitting import Fixed, stratified_split, stratified_subset

CLASSES = ["cat", "dog", "owl"]
LABELS = torch.tensor([0] * 100 + [1] * 37 + [2] * 11)[torch.randperm(148, generator=torch.Generator().manual_seed(5))]


@pytest.mark.parametrize(
    "shares", [{}, {"held_out": 0.2}, {"held_out": 30, "test": 0.3}, {"a": 0.2, "b": 15, "c": 0.5}]
)
def test_parts_are_disjoint_complete_and_stratified(shares: dict[str, float | int]) -> None:
    parts = stratified_split(LABELS, shares, CLASSES, seed=0)
    assert list(parts) == ["train", *shares]
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(148))
    for name, share in shares.items():
        expected = share if isinstance(share, int) else max(round(share * 148), 3)
        assert len(parts[name]) == expected
        counts = torch.bincount(LABELS[parts[name]], minlength=3).tolist()
        for count, total in zip(counts, (100, 37, 11), strict=True):
            assert count >= 1
            assert abs(count - total * expected / 148) <= 1
        assert torch.equal(parts[name], parts[name].sort().values)


def test_the_seed_decides() -> None:
    first, again, other = (stratified_split(LABELS, {"test": 0.3}, CLASSES, seed)["test"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    state = torch.get_rng_state()
    stratified_subset(LABELS, 20, CLASSES, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_part_gets_one_of_a_rare_class() -> None:
    labels = torch.tensor([0] * 500 + [1] * 3)
    parts = stratified_split(labels, {"held_out": 0.1, "test": 0.6}, ["many", "few"], seed=0)
    assert [int((labels[part] == 1).sum()) for part in parts.values()] == [1, 1, 1]


def test_subset_is_stratified() -> None:
    subset = stratified_subset(LABELS, 30, CLASSES, 0)
    assert torch.bincount(LABELS[subset]).tolist() == [20, 8, 2]
    assert len(stratified_subset(LABELS, 1000, CLASSES, 0)) == 148


@pytest.mark.parametrize(
    ("labels", "shares", "message"),
    [
        ([0, 0, 0, 1], {"test": 0.5}, "class 'dog' has 1 image, at least 2 are needed to split them into train, test"),
        (
            [0, 0, 0, 1, 1],
            {"held_out": 0.2, "test": 0.2},
            "class 'dog' has 2 images, at least 3 .* train, held_out, test",
        ),
        ([0, 0, 1, 1], {"test": 1}, "test=1 is less than one image for each of the 2 classes; give at least 2"),
        ([0, 0, 1, 1], {"test": 3}, "test=3 asks for 3 of 4 images; at most 2 can be taken"),
        ([0, 1] * 10, {"held_out": 15, "test": 0.2}, "held_out=15 asks for 15 of 20 images; at most 14 can be taken"),
        ([0, 0, 1, 1], {"test": 0.9}, "test=0.9 asks for 4 of 4 images"),
        ([0, 0, 1, 1], {"test": 1.5}, "test must be a fraction above 0 and below 1, or a number of images, got 1.5"),
    ],
)
def test_impossible_splits_are_refused(labels: list[int], shares: dict[str, float | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stratified_split(torch.tensor(labels), shares, CLASSES[:2], seed=0)


def test_too_small_a_subset_is_refused() -> None:
    with pytest.raises(ValueError, match="max_train_images=2 is less than one image for each of the 3 classes"):
        stratified_subset(LABELS, 2, CLASSES, 0)


def test_images_with_a_part_keep_it_and_the_others_are_split_alike() -> None:
    first = torch.arange(148)
    first[140:] = first[:8]  # copies
    part = torch.full((148,), -1)
    part[20:60] = 0
    part[60:70] = 1
    part[70:100] = 2
    parts = stratified_split(LABELS, {"held_out": 0.2, "test": 0.2}, CLASSES, 0, Fixed(first, part))
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(148))
    found = torch.zeros(148, dtype=torch.int64)
    for position, indices in enumerate(parts.values()):
        found[indices] = position
    assert torch.equal(found[20:100], part[20:100])
    assert torch.equal(found[140:], found[:8])
    # Of 140 different images a fifth is 28: test has its share, held_out gets about a fifth of the 60 new ones.
    new = found[[*range(20), *range(100, 140)]]
    assert 60 / 5 <= (new == 1).sum() <= 60 / 5 + 3
    assert (new == 2).sum() <= 2
