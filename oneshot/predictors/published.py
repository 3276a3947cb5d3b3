"""The accuracy predictor published with Once-for-All (Cai et al., ICLR 2020; https://github.com/mit-han-lab/once-for-all)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.arch import Option
from oneshot.predictors.predictor import Features, Scores, check_features
from oneshot.reading import read_torch
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Coding

# The published features: kernels of 5 stages of 4 blocks, their expansions, the resolution. The depth shows in blocks that are
# all zero.
_KERNELS, _EXPANSIONS, _RESOLUTIONS = (3, 5, 7), (3, 4, 6), tuple(range(112, 225, 16))
_NUM_STAGES, _NUM_BLOCKS = 5, 4
_DEPTHS = (2, 3, 4)
_LAYERS: dict[int, tuple[int, ...]] = {0: (400, 128), 2: (400, 400), 4: (400, 400), 6: (1, 400)}  # of the state dict


class PublishedPredictor:
    """Top-1 accuracy on ImageNet, as a part of 1, of the networks of the published Once-for-All supernet with inherited weights.

    It was fitted to networks of width 1.2; those of other widths are ranked by it, not measured. Made by ``load``.
    """

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    @classmethod
    def load(cls, path: str | Path | None, space: SearchSpace) -> Self:
        """The predictor in the file ``path`` (published as ``acc_predictor.pth``), for the columns of ``Coding(space).one_hot``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: ``path`` is None; the file holds something else; or ``space`` has choices or options that the predictor
                does not know.
        """
        columns = _columns(space)
        if path is None:
            raise ValueError("path names the file of the published predictor, acc_predictor.pth")
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no published predictor at {path}")
        state = read_torch(path)
        names = [(f"{layer}.weight", f"{layer}.bias") for layer in _LAYERS]
        expected = {f"{layer}.weight": shape for layer, shape in _LAYERS.items()}
        expected |= {f"{layer}.bias": shape[:1] for layer, shape in _LAYERS.items()}
        if not isinstance(state, dict) or _shapes(state) != expected:
            raise ValueError(f"{path} is not the published predictor, whose layers are 128-400-400-400-1")
        layers = [(state[weight].float(), state[bias].float()) for weight, bias in names]
        # Rearranging the columns of the first layer once spares rearranging the features of every call.
        weight = torch.zeros(len(layers[0][0]), len(columns))
        known = [index for index, column in enumerate(columns) if column is not None]
        weight[:, known] = layers[0][0][:, [columns[index] for index in known]]
        return cls([(weight, layers[0][1]), *layers[1:]])

    def fit(self, features: Features, scores: Scores) -> None:
        """Does nothing: it is fitted, and pairs only tell how far to trust it."""
        check_features(features, self._layers[0][0].shape[1])

    def predict(self, features: Features) -> Scores:
        """As ``Predictor.predict``."""
        check_features(features, self._layers[0][0].shape[1])
        x = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        with torch.inference_mode():
            for weight, bias in self._layers[:-1]:
                x = nn.functional.linear(x, weight, bias).relu_()
            x = nn.functional.linear(x, *self._layers[-1])
        predicted: Scores = x[:, 0].numpy().astype(np.float64)
        return predicted

    def state_dict(self) -> dict[str, Any]:
        """As ``Predictor.state_dict``."""
        return {"layers": self._layers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As ``Predictor.load_state_dict``."""
        self._layers = state["layers"]


def _shapes(state: dict[Any, Any]) -> dict[Any, Any]:
    return {name: tuple(value.shape) if isinstance(value, Tensor) else value for name, value in state.items()}


def _columns(space: SearchSpace) -> list[int | None]:
    """The published column of each column of ``Coding(space).one_hot``; None for depths, which have none."""
    published: dict[str, dict[Option, int | None]] = {}
    for stage in range(_NUM_STAGES):
        published[f"stage{stage + 1}.depth"] = dict.fromkeys(_DEPTHS)
        for block in range(_NUM_BLOCKS):
            first, name = 3 * (_NUM_BLOCKS * stage + block), f"stage{stage + 1}.block{block + 1}"
            published[f"{name}.kernel"] = {option: first + index for index, option in enumerate(_KERNELS)}
            published[f"{name}.expand"] = {option: 60 + first + index for index, option in enumerate(_EXPANSIONS)}
    published["resolution"] = {option: 120 + index for index, option in enumerate(_RESOLUTIONS)}
    for choice in space.choices:
        if choice.name not in published:
            raise ValueError(
                f"the published predictor is for OFAMobileNetV3: it does not know the choice {choice.name!r}"
            )
        for option in choice.options:
            if option not in published[choice.name]:
                raise ValueError(
                    f"the published predictor does not know {choice.name}={option!r}, only {list(published[choice.name])}"
                )
    optional = {f"stage{stage}.block{block}" for stage in range(1, _NUM_STAGES + 1) for block in (3, 4)}
    for name in published:
        if name.rpartition(".")[0] not in optional and name not in {choice.name for choice in space.choices}:
            raise ValueError(f"the published predictor is for OFAMobileNetV3: this space has no choice {name!r}")
    return [published[name][option] for name, option in Coding(space).columns]
