"""Choices and architectures."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshot.arch import Arch, Choice, Option, suggest

OPTIONS = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())


def test_a_choice_is_active_where_all_its_conditions_hold() -> None:
    choice = Choice("stage1.block3.kernel", (3, 5), {"stage1.depth": (3, 4), "kind": ("conv",)})
    assert choice.is_active({"stage1.depth": 3, "kind": "conv"})
    assert not choice.is_active({"stage1.depth": 2, "kind": "conv"})
    assert not choice.is_active({"stage1.depth": 3, "kind": "pool"})
    assert not choice.is_active({"stage1.depth": 3})
    assert Choice("kernel", (3, 5)).is_active({})


def test_equal_choices_are_equal_and_none_can_be_changed() -> None:
    choice = Choice("kernel", [3, 5], {"depth": [2]})
    assert choice == Choice("kernel", (3, 5), {"depth": (2,)})
    assert hash(choice) == hash(Choice("kernel", (3, 5), {"depth": (2,)}))
    assert choice != Choice("kernel", (5, 3), {"depth": (2,)})
    with pytest.raises(AttributeError):
        choice.options = (3,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "when", "message"),
    [
        ((), None, "choice 'kernel' has no options"),
        ((3, 5, 3), None, r"choice 'kernel' has an option twice: \[3, 5, 3\]"),
        ((1, True), None, "has an option twice"),
        ((3, (5, 5)), None, r"choice 'kernel': options are numbers, strings or bools, not \(5, 5\)"),
        ((3, None), None, "options are numbers, strings or bools, not None"),
        ((3, 5), {"kind": "conv"}, r"choice 'kernel': when\['kind'\] is a tuple of options, not 'conv'"),
        ((3, 5), {"depth": 2}, r"when\['depth'\] is a tuple of options, not 2"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(
    options: tuple[Option, ...], when: dict[str, tuple[Option, ...]] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Choice("kernel", options, when)


@given(st.dictionaries(st.text(), OPTIONS))
def test_an_architecture_survives_json_and_pickle(values: dict[str, Option]) -> None:
    arch = Arch(values)
    for read in (Arch(json.loads(arch.to_json())), pickle.loads(pickle.dumps(arch))):
        assert read == arch
        assert hash(read) == hash(arch)
        assert [(name, type(value)) for name, value in read.items()] == [(n, type(v)) for n, v in values.items()]
    assert json.loads(arch.to_json()) == values
    assert "\n" not in arch.to_json()


@given(st.dictionaries(st.text(), OPTIONS), st.dictionaries(st.text(), OPTIONS))
def test_architectures_are_equal_where_their_values_are(one: dict[str, Option], two: dict[str, Option]) -> None:
    assert (Arch(one) == Arch(two)) == (one == two)
    reordered = Arch(dict(reversed(one.items())))
    assert reordered == Arch(one)
    assert hash(reordered) == hash(Arch(one))
    assert len({reordered, Arch(one)}) == 1


def test_an_architecture_is_a_mapping_that_cannot_change() -> None:
    values: dict[str, Option] = {"depth": 2, "kind": "conv"}
    arch = Arch(values)
    values["depth"] = 3
    arch.to_dict()["depth"] = 4
    assert arch["depth"] == 2
    assert list(arch) == ["depth", "kind"]
    assert len(arch) == 2
    assert "kind" in arch
    assert "depths" not in arch
    assert arch.get("depths") is None
    assert arch.get("depths", 7) == 7
    assert dict(arch) == arch.to_dict() == {"depth": 2, "kind": "conv"}
    assert arch != {"depth": 2, "kind": "conv"}
    with pytest.raises(TypeError):
        arch["depth"] = 3  # type: ignore[index]


def test_a_missing_choice_is_named_with_the_nearest() -> None:
    arch = Arch({"stage1.depth": 2})
    with pytest.raises(KeyError, match=r"'stage1.dept' is not an active choice .* did you mean 'stage1.depth'"):
        arch["stage1.dept"]


def test_only_integers_are_given_as_integers() -> None:
    arch = Arch({"depth": 2, "ratio": 2.0})
    assert arch.integer("depth") == 2
    with pytest.raises(TypeError, match=r"choice 'ratio' holds 2.0, not an integer"):
        arch.integer("ratio")


def test_a_suggestion_is_made_only_where_a_name_is_near() -> None:
    known = ["stage1.depth", "resolution"]
    assert suggest("resolutoin", known) == "; did you mean 'resolution'?"
    assert suggest("banana", known) == ""
