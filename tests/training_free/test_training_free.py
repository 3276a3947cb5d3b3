"""What holds of every training-free score, over spaces of several kinds; and their names."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from space_examples import SPACES, some_archs
from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.costs import CostTable
from oneshot.data import Augmentation, ImageData, TensorImages
from oneshot.spaces import Make, SearchSpace
from oneshot.training_free import SCORES, TrainingFreeScores, scores_called

KINDS = (
    "nasbench_macro",
    "nasbench201",
    "vit",
)  # ReLU and BatchNorm; graphs that may be empty; GELU, LayerNorm and tokens
REFUSED = {("zen_score", "vit")}


def make_data(size: int = 16) -> ImageData:
    pixels = torch.randint(256, (40, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = TensorImages(pixels, torch.arange(40).remainder(5))
    half = (0.5, 0.5, 0.5)
    return ImageData("toys", images, images, images, tuple("abcde"), size, half, half, Augmentation())


DATA = make_data()


def scorer(space: SearchSpace, *names: str, seed: int = 0) -> TrainingFreeScores:
    return TrainingFreeScores(space, DATA, scores_called(names or list(SCORES), num_images=4, repeats=2), seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_every_score_is_a_function_of_the_architecture_and_the_seed(kind: str) -> None:
    space = SPACES[kind]()
    names = [name for name in SCORES if (name, kind) not in REFUSED]
    archs = some_archs(space, 1)[1:]
    torch.manual_seed(1)
    together = scorer(space, *names).values(archs)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    halves = [scorer(space, *part)(archs[-1]) for part in (names[::2], names[1::2])]  # in other company
    assert torch.equal(torch.get_rng_state(), state)
    for name in names:
        assert np.isfinite(together[name]).all(), name
        assert halves[names.index(name) % 2][name] == together[name][-1], name
    other = scorer(space, *names, seed=1)(archs[0])
    counted = {"num_params", "macs"}
    assert {name for name in names if other[name] == together[name][0]} <= {*counted, "az_progressivity", "swap"}


@pytest.mark.parametrize(("name", "kind"), sorted(REFUSED))
def test_a_score_that_says_nothing_about_a_space_is_refused_in_a_line(name: str, kind: str) -> None:
    space = SPACES[kind]()
    with pytest.raises(ValueError, match=rf"^{name} .*: choose another score$"):
        scorer(space, name)(space.smallest)


def test_networks_that_begin_alike_have_the_same_weights_there() -> None:
    space = SPACES["nasbench_macro"]()
    one, other = (scorer(space, "naswot").untrained(space.from_code(code)) for code in ("12012012", "12012021"))  # type: ignore[attr-defined]
    first, second = one.state_dict(), other.state_dict()
    shared = [name for name in first if name.startswith(("stem", "layer1", "layer6", "head"))]
    assert shared
    assert all(torch.equal(first[name], second[name]) for name in shared)


class Perhaps(SearchSpace):
    """A network with or without an activation."""

    def __init__(self, options: tuple[bool, ...] = (False, True)) -> None:
        self.num_classes, self.resolution = 5, 16
        self.choices = (Choice("active", tuple(options)),)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        activation = nn.ReLU() if arch["active"] else nn.Identity()
        stem, classifier = make("stem", nn.Conv2d, 3, 4, 3), make("classifier", nn.Linear, 4, 5)
        return nn.Sequential(stem, activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), classifier)


def test_a_network_that_lacks_what_others_have_is_last() -> None:
    space = Perhaps()
    found = scorer(space, "naswot").values([space.smallest, space.largest])["naswot"]
    assert found[0] == -math.inf
    assert math.isfinite(found[1])
    with pytest.raises(ValueError, match="naswot looks at which activations are positive, and the network has no ReLU"):
        scorer(Perhaps((False,)), "naswot")(Perhaps((False,)).largest)


def test_counts_are_those_of_the_cost_table() -> None:
    space = SPACES["nasbench_macro"]()
    archs = some_archs(space, 2)
    found, costs = scorer(space, "num_params", "macs").values(archs), CostTable(space).costs(archs)
    assert found["num_params"].tolist() == [cost.params for cost in costs]
    assert found["macs"].tolist() == [cost.macs for cost in costs]


def test_repeats_are_a_mean_over_draws() -> None:
    space = SPACES["nasbench201"]()
    one, three = (
        TrainingFreeScores(space, DATA, scores_called(["swap"], 16, repeats))(space.largest)["swap"]
        for repeats in (1, 3)
    )
    assert one == int(one)
    assert one != three
    assert round(3 * three, 6) == int(round(3 * three, 6))


def test_names_and_numbers_that_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'naswott' is no training-free score; there are naswot, .*did you mean 'naswot'\?"
    ):
        scores_called(["naswott"])
    with pytest.raises(ValueError, match="num_images is at least 2, not 1"):
        scores_called(["swap"], num_images=1)
    with pytest.raises(ValueError, match=re.escape("there is no score to search with")):
        scores_called([])
    assert [score.name for score in scores_called(["swap", "macs", "swap"])] == ["swap", "macs"]
