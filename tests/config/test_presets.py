"""Which trainer a command gets that names none."""

from __future__ import annotations

import pytest

from oneshot.config.presets import with_trainer

TRAINED = ["+space=timm", "space.model=resnet18", "space.weights=resnet18.pt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (TRAINED, True),
        (["-m", *TRAINED, "trainer.lr=0.02,0.01", "seed=0"], True),
        (["+space=network", "space.build=torchvision:resnet18", "++space.weights='a=b.pt'"], True),
        (["+space=timm", "space.weights=pretrained"], True),
        (["+space=timm"], False),
        (["+space=timm", "space.weights=null"], False),
        (["+space=ofa", "space.weights=a.pt"], False),
        ([*TRAINED, "trainer=default"], False),
        ([*TRAINED, "+experiment=mine"], False),
    ],
)
def test_the_trainer_for_trained_weights(arguments: list[str], expected: bool) -> None:
    assert with_trainer(arguments, "train_supernet") == [*arguments, *(["trainer=pretrained"] if expected else [])]
    assert with_trainer(arguments, "measure_latency") == arguments
