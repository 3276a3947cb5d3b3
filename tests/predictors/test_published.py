"""The published predictor: the official implementation's numbers, and spaces that it is not for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from oneshot.predictors import PublishedPredictor
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3
from oneshot.spaces.coding import Coding

# Resolution, kernels, expansions and depths in the published encoding, and what the official implementation predicts.
OFFICIAL = [
    (144, "33335533533337333733", "33334333333364336433", "22322", 0.7879004),
    (224, "33335533553355333373", "33333633443364446663", "23344", 0.8256405),
    (176, "33335333533333333553", "33334433443343334443", "22233", 0.7823350),
    (128, "33333333333333333333", "33333333333333333333", "22222", 0.7667172),
    (224, "77777777777777777777", "66666666666666666666", "44444", 0.8359278),
    (112, "77777777777777777777", "66666666666666666666", "44444", 0.8220036),
    (128, "55357555557373533757", "66343636446344466364", "34324", 0.8025228),
    (176, "37577737553757337333", "64334643464636463666", "33243", 0.8008634),
    (176, "73533337755337333377", "64664633664644466643", "34234", 0.8068835),
]


@pytest.fixture
def path(shared_data: Path) -> Path:
    return shared_data / "ofa" / "acc_predictor.pth"


def values_of(resolution: int, kernels: str, expansions: str, depths: str) -> dict[str, int]:
    values = {"resolution": resolution}
    for stage in range(5):
        values[f"stage{stage + 1}.depth"] = int(depths[stage])
        for block in range(4):
            name = f"stage{stage + 1}.block{block + 1}"
            values[f"{name}.kernel"] = int(kernels[4 * stage + block])
            values[f"{name}.expand"] = int(expansions[4 * stage + block])
    return values


def test_it_predicts_what_the_official_implementation_does(path: Path) -> None:
    space = OFAMobileNetV3(resolutions=range(112, 225, 16))
    predictor = PublishedPredictor.load(path, space)
    archs = [space.arch(values_of(*encoding)) for *encoding, _ in OFFICIAL]
    predicted = predictor.predict(Coding(space).one_hot(Coding(space).encode(archs)))
    np.testing.assert_allclose(predicted, [expected for *_, expected in OFFICIAL], atol=2e-6)


def test_a_restricted_space_is_predicted_by_the_names_of_its_choices(path: Path) -> None:
    space = OFAMobileNetV3(resolutions=(128,), depths=(2, 3), kernel_sizes=(3, 5), expand_ratios=(3, 6))
    predictor = PublishedPredictor.load(path, space)
    features = Coding(space).one_hot(Coding(space).encode([space.smallest]))
    np.testing.assert_allclose(predictor.predict(features), 0.7667172, atol=2e-6)
    predictor.fit(features, np.array([0.5]))
    np.testing.assert_allclose(predictor.predict(features), 0.7667172, atol=2e-6)
    loaded = PublishedPredictor.load(path, space)
    loaded.load_state_dict(predictor.state_dict())
    np.testing.assert_array_equal(loaded.predict(features), predictor.predict(features))
    with pytest.raises(ValueError, match="this predictor takes"):
        predictor.predict(features[:, 1:])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (NASBenchMacro(), "is for OFAMobileNetV3: it does not know the choice 'layer1'"),
        (OFAMobileNetV3(resolutions=(128, 232)), r"does not know resolution=232, only \[112, 128, .*224\]"),
        (OFAMobileNetV3(expand_ratios=(2, 3)), r"does not know stage1\.block1\.expand=2, only \[3, 4, 6\]"),
        (OFAMobileNetV3(depths=(1, 2)), r"does not know stage1\.depth=1, only \[2, 3, 4\]"),
        (OFAMobileNetV3(depths=(2, 5)), r"does not know stage1\.depth=5, only \[2, 3, 4\]"),
    ],
)
def test_other_spaces_are_refused(space: NASBenchMacro | OFAMobileNetV3, message: str, path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        PublishedPredictor.load(path, space)


def test_a_space_without_some_choices_is_refused(path: Path) -> None:
    space = OFAMobileNetV3(resolutions=(128,))
    space.choices = space.choices[1:]
    with pytest.raises(ValueError, match="this space has no choice 'resolution'"):
        PublishedPredictor.load(path, space)


def test_other_files_are_refused(tmp_path: Path) -> None:
    space = OFAMobileNetV3()
    with pytest.raises(FileNotFoundError, match="there is no published predictor at"):
        PublishedPredictor.load(tmp_path / "missing.pth", space)
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ValueError, match="is no PyTorch file"):
        PublishedPredictor.load(tmp_path / "text.pth", space)
    torch.save({"0.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is not the published predictor"):
        PublishedPredictor.load(tmp_path / "other.pth", space)
