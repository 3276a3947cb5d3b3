"""What a search space derives from its choices."""

import itertools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oneshot.arch import Arch, Choice, Option
from oneshot.costs import CostTable
from oneshot.spaces import Make, OFAMobileNetV3, SearchSpace
from oneshot.spaces.coding import Coding
from oneshot.supernet import Supernet


class Decisions(SearchSpace):
    """Choices alone; the network is the same for all."""

    num_classes = 2

    def __init__(self, choices: tuple[Choice, ...] = ()) -> None:
        self.choices = choices

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), make("head", nn.Linear, 3, 2))


@st.composite
def spaces(draw: st.DrawFn) -> Decisions:
    """Up to six choices of up to three options, each active under up to two earlier ones."""
    choices: list[Choice] = []
    for index in range(draw(st.integers(1, 6))):
        options = draw(st.permutations((1, 2, 3)))[: draw(st.integers(1, 3))]
        when = {}
        for earlier in draw(st.lists(st.sampled_from(choices), max_size=2, unique=True)) if choices else []:
            when[earlier.name] = tuple(draw(st.lists(st.sampled_from(earlier.options), min_size=1, unique=True)))
        choices.append(Choice(f"choice{index}", tuple(options), when))
    return Decisions(tuple(choices))


def brute_force(space: SearchSpace) -> set[Arch]:
    names = [choice.name for choice in space.choices]
    everything = itertools.product(*(choice.options for choice in space.choices))
    return {space.arch(dict(zip(names, values, strict=True))) for values in everything}


@given(spaces(), st.randoms(use_true_random=False))
def test_everything_derived_agrees_with_enumeration(space: Decisions, rng: random.Random) -> None:
    space.check()
    everything = brute_force(space)
    assert list(dict.fromkeys(space.enumerate())) == list(space.enumerate())
    assert set(space.enumerate()) == everything
    assert space.size == len(everything)
    assert {space.largest, space.smallest, space.sample(rng)} <= everything
    arch = space.sample(rng)
    assert set(space.neighbours(arch)) <= everything
    coding, generator = Coding(space), np.random.default_rng(rng.getrandbits(32))
    codes = coding.encode([arch, space.sample(rng)])
    assert set(coding.decode(coding.mutate(codes, 0.5, generator))) <= everything
    assert set(coding.decode(coding.crossover(codes, codes[::-1], generator))) <= everything
    assert len({tuple(row) for row in coding.one_hot(coding.encode(everything)).tolist()}) == len(everything)


@given(spaces())
def test_the_covering_holds_every_option_and_the_pairwise_one_every_pair(space: Decisions) -> None:
    def contained(archs: list[Arch], number: int) -> set[frozenset[tuple[str, Option]]]:
        return {frozenset(part) for arch in archs for part in itertools.combinations(arch.items(), number)}

    everything = [*brute_force(space)]
    assert contained(space.covering(), 1) == contained(everything, 1)
    pairwise = [*space.pairwise()]
    assert contained(pairwise, 2) == contained(everything, 2)
    assert set(pairwise) <= set(everything)
    assert pairwise == [*space.pairwise()]


def test_neighbours_differ_in_one_choice() -> None:
    space = OFAMobileNetV3(resolutions=(32, 48))
    base = space.sample(random.Random(0))
    seen: set[tuple[str, Option]] = set(base.items())
    for arch in space.neighbours(base):
        changed = {name for name in base if name in arch and arch[name] != base[name]}
        appeared, disappeared = arch.keys() - base.keys(), base.keys() - arch.keys()
        # A deeper or shallower stage adds or drops its blocks' choices.
        assert len(changed) == 1 or (len(changed) == 2 and any(name.endswith("depth") for name in changed)) or appeared
        if appeared or disappeared:
            assert any(name.endswith("depth") for name in changed)
        seen |= set(arch.items())
    assert seen == {(choice.name, option) for choice in space.choices for option in choice.options}


def test_values_of_inactive_choices_are_dropped() -> None:
    space = Decisions((Choice("depth", (1, 2)), Choice("kernel", (3, 5), {"depth": (2,)})))
    assert space.arch({"depth": 1, "kernel": 5}) == space.arch({"depth": 1}) == Arch({"depth": 1})
    assert space.arch({"kernel": 5, "depth": 2}) == Arch({"depth": 2, "kernel": 5})
    with pytest.raises(ValueError, match=r"choice 'kernel' has no value; its options are \[3, 5\]"):
        space.arch({"depth": 2})
    with pytest.raises(ValueError, match="is not in canonical form"):
        space.validate(Arch({"depth": 1, "kernel": 5}))


@pytest.mark.parametrize("value", [4, "3", None, [3], {"3": 3}, float("nan")])
def test_a_value_that_is_no_option_is_refused(value: object) -> None:
    space = Decisions((Choice("kernel", (3, 5)),))
    with pytest.raises(ValueError, match=r"choice 'kernel' cannot be .*; its options are \[3, 5\]"):
        space.arch({"kernel": value})


def test_architectures_are_parsed_from_json() -> None:
    space = OFAMobileNetV3()
    arch = space.sample(random.Random(0))
    assert space.parse(arch.to_json()) == arch
    for text in ("01201", "[1, 2]", "|none~0|"):
        with pytest.raises(ValueError, match="an architecture is written as a JSON object of choices and values, not"):
            space.parse(text)
    with pytest.raises(ValueError, match="'depth' is not a choice of this space"):
        space.parse('{"depth": 2}')


def test_an_equal_value_is_taken_as_the_option() -> None:
    space = Decisions((Choice("ratio", (3, 4.5)),))
    arch = space.arch({"ratio": 3.0})
    assert arch.to_json() == '{"ratio": 3}'


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((Choice("kernel", (3,)), Choice("kernel", (5,))), "two choices are called 'kernel'"),
        (
            (Choice("kernel", (3, 5), {"depth": (2,)}), Choice("depth", (1, 2))),
            "choice 'kernel' depends on 'depth', which is no earlier choice",
        ),
        (
            (Choice("stage1.depth", (1, 2)), Choice("kernel", (3, 5), {"stage1.dept": (2,)})),
            "depends on 'stage1.dept', which is no earlier choice; did you mean 'stage1.depth'",
        ),
    ],
)
def test_choices_that_contradict_each_other_are_refused(choices: tuple[Choice, ...], message: str) -> None:
    for use in (Supernet, CostTable):
        with pytest.raises(ValueError, match=message):
            use(Decisions(choices))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (3, "options are lists by pattern of choice names, not 3"),
        ({3: [3]}, "3 is no pattern of choice names"),
        ({"*.kernel": 3}, r"the options of '\*\.kernel' are a list, such as \[3\], not 3"),
        ({"*.kernel": "3"}, r"the options of '\*\.kernel' are a list, such as \['3'\], not '3'"),
    ],
)
def test_restrictions_of_another_form_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OFAMobileNetV3().restrict(options)


def test_restrictions_match_patterns_and_keep_the_order_of_options() -> None:
    space = OFAMobileNetV3()
    part = space.restrict({"*.kernel": (7, 3), "resolution": [224], "stage1.depth": (2,)})
    options = {choice.name: choice.options for choice in part.choices}
    assert {options[name] for name in options if name.endswith("kernel")} == {(3, 7)}
    assert options["resolution"] == (224,)
    assert options["stage2.depth"] == (2, 3, 4)
    assert part.max_resolution == 224
    assert part.definition == space.definition
    assert "stage1.block3.kernel" not in part.largest
    assert space.largest["resolution"] == 224
    assert space.smallest["stage1.block1.kernel"] == part.smallest["stage1.block1.kernel"] == 3
    assert part.restrict({"*.kernel": (7,)}).smallest["stage1.block1.kernel"] == 7
    with pytest.raises(ValueError, match=r"'stage1.dept' matches no choice of this space; did you mean"):
        space.restrict({"stage1.dept": (2,)})
    with pytest.raises(ValueError, match=r"choice 'stage1.depth' cannot be 5; its options are \[2, 3, 4\]"):
        space.restrict({"stage1.depth": (2, 5)})
    with pytest.raises(ValueError, match=r"choice 'stage1.depth' has no options"):
        space.restrict({"stage1.depth": ()})


def test_mutation_redraws_about_as_many_choices_as_asked() -> None:
    space = Decisions(tuple(Choice(f"choice{index}", tuple(range(10))) for index in range(500)))
    coding, rng = Coding(space), np.random.default_rng(0)
    codes = coding.sample(1, rng)
    for probability in (0.1, 0.5):
        changed = (coding.mutate(codes, probability, rng) != codes).sum()
        assert changed / 500 == pytest.approx(probability * 0.9, abs=0.06)


def test_crossover_takes_from_both_parents() -> None:
    space = Decisions(tuple(Choice(f"choice{index}", (0, 1)) for index in range(400)))
    coding = Coding(space)
    smallest, largest = coding.encode([space.smallest, space.largest])[:, None]
    child = coding.crossover(smallest, largest, np.random.default_rng(0))
    assert child.sum() == pytest.approx(200, abs=40)


class Arguments(Decisions):
    """Arguments of every kind that a definition may hold."""

    def __init__(
        self, width: int, ratios: tuple[float, ...] = (1.0, 2.0), *, name: str = "x", flag: bool = True
    ) -> None:
        super().__init__((Choice("ratio", tuple(ratios)),))


def test_a_definition_names_the_class_and_all_arguments() -> None:
    assert Arguments(3, flag=False).definition == {
        "_target_": f"{__name__}.Arguments",
        "width": 3,
        "ratios": [1.0, 2.0],
        "name": "x",
        "flag": False,
    }
    assert OFAMobileNetV3(7, kernel_sizes=[3, 5]).definition["kernel_sizes"] == [3, 5]


def test_the_resolution_is_a_choice_or_an_attribute() -> None:
    space = Decisions((Choice("resolution", (16, 24)),))
    assert space.input_shape(space.smallest) == (3, 16, 16)
    assert space.max_resolution == 24
    fixed = Decisions()
    fixed.resolution, fixed.in_channels = 20, 1
    assert fixed.input_shape(fixed.largest) == (1, 20, 20)
    assert fixed.max_resolution == 20
    assert fixed.size == 1


def test_a_new_network_starts_as_the_space_says() -> None:
    class Constant(Decisions):
        def initialize(self, name: str, block: nn.Module) -> None:
            assert name == "head"
            nn.init.constant_(block.weight, 5.0)

    space = Constant()
    assert (space.network(space.largest)[2].weight == 5).all()
    assert (Supernet(space).get_parameter("bank.head.weight") == 5).all()
    torch.manual_seed(0)
    one = Decisions().network(space.largest)[2].weight
    torch.manual_seed(0)
    assert torch.equal(Decisions().network(space.largest)[2].weight, one)


def test_isomorphic_architectures_are_counted_once() -> None:
    class Unordered(Decisions):
        def canonical(self, values: Mapping[str, Option]) -> dict[str, Option]:
            return dict(zip(values, sorted(values.values()), strict=True))

    space = Unordered((Choice("one", (1, 2, 3)), Choice("two", (1, 2, 3))))
    assert space.size == 6
    assert space.arch({"one": 3, "two": 1}) == space.arch({"one": 1, "two": 3})
    assert {space.sample(random.Random(seed)) for seed in range(100)} == set(space.enumerate())
    with pytest.raises(ValueError, match="is not in canonical form"):
        space.validate(Arch({"one": 3, "two": 1}))
