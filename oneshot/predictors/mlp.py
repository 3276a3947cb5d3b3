"""A multilayer perceptron over one-hot choices, as Once-for-All predicts accuracy (Cai et al., ICLR 2020)."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.checking import check_count
from oneshot.predictors.predictor import Features, Scores, check_features, check_pairs


class MLPPredictor:
    """Fully connected layers with ReLU, fitted to standardised scores by Adam; the weights that err least on a part of the pairs
    are kept.

    Several networks that differ in their initial weights and in the part held out are averaged: that steadies a few hundred
    pairs.

    Args:
        hidden: sizes of the hidden layers. Published are three of 400, for 16,000 pairs; a few hundred are learned
            better by several smaller networks.
        num_networks: that are averaged.
        epochs: the most that a network is trained.
        patience: epochs without a smaller error after which its training ends.
        validation: part of the pairs by which the epoch is chosen.
        batch_size: pairs of one step.
        lr: of Adam, decaying to 0 by a cosine over ``epochs``.
        weight_decay: decoupled (AdamW).
        seed: of initial weights, parts and batches.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        num_networks: int = 4,
        epochs: int = 100,
        patience: int = 30,
        validation: float = 0.2,
        batch_size: int = 64,
        lr: float = 0.005,
        weight_decay: float = 0.01,
        seed: int = 0,
    ) -> None:
        check_count(1, num_networks=num_networks, epochs=epochs, patience=patience, batch_size=batch_size)
        if not (lr > 0 and weight_decay >= 0):
            raise ValueError(f"lr is positive and weight_decay not negative, they are {lr} and {weight_decay}")
        if any(size < 1 for size in hidden):
            raise ValueError(f"hidden layers have at least 1 unit, not {list(hidden)}")
        if not 0 <= validation < 1:
            raise ValueError(f"validation is a part of the pairs, from 0 to below 1, not {validation}")
        self.hidden = tuple(hidden)
        self.num_networks = num_networks
        self.epochs = epochs
        self.patience = patience
        self.validation = validation
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.seed = seed
        self._networks: list[nn.Sequential] = []
        self._num_features: int | None = None
        self._mean, self._std = 0.0, 1.0

    def fit(self, features: Features, scores: Scores) -> None:
        """As ``Predictor.fit``; on one thread, so that the same pairs give the same predictor on every machine of a kind."""
        check_pairs(features, scores)
        self._mean, self._std = float(scores.mean()), float(scores.std()) or 1.0
        inputs = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        targets = torch.from_numpy(((scores - self._mean) / self._std).astype(np.float32))
        with _one_thread():
            self._networks = [
                self._train(inputs, targets, torch.Generator().manual_seed(1000 * self.seed + index))
                for index in range(self.num_networks)
            ]
        self._num_features = features.shape[1]

    def predict(self, features: Features) -> Scores:
        """As ``Predictor.predict``."""
        check_features(features, self._num_features)
        inputs = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        with torch.inference_mode():
            mean = torch.stack([network(inputs)[:, 0] for network in self._networks]).mean(dim=0)
        predicted: Scores = mean.numpy().astype(np.float64) * self._std + self._mean
        return predicted

    def state_dict(self) -> dict[str, Any]:
        """As ``Predictor.state_dict``."""
        weights = [network.state_dict() for network in self._networks]
        return {"num_features": self._num_features, "mean": self._mean, "std": self._std, "networks": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As ``Predictor.load_state_dict``."""
        self._num_features, self._mean, self._std = state["num_features"], state["mean"], state["std"]
        self._networks = []
        for weights in state["networks"]:
            network = perceptron(state["num_features"], self.hidden, torch.Generator())
            network.load_state_dict(weights)
            self._networks.append(network)

    def _train(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> nn.Sequential:
        network = perceptron(inputs.shape[1], self.hidden, generator)
        optimizer = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=self.weight_decay)
        order = torch.randperm(len(inputs), generator=generator)
        num_held_out = int(self.validation * len(inputs))
        held_out, train = order[:num_held_out], order[num_held_out:]
        best, least, best_epoch = copy.deepcopy(network.state_dict()), math.inf, 0
        for epoch in range(self.epochs):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
            for batch in train[torch.randperm(len(train), generator=generator)].split(self.batch_size):
                optimizer.zero_grad()
                nn.functional.mse_loss(network(inputs[batch])[:, 0], targets[batch]).backward()
                optimizer.step()
            if not num_held_out:
                continue
            with torch.inference_mode():
                error = float(nn.functional.mse_loss(network(inputs[held_out])[:, 0], targets[held_out]))
            if error < least:
                best, least, best_epoch = copy.deepcopy(network.state_dict()), error, epoch
            elif epoch - best_epoch >= self.patience:
                break
        if num_held_out:
            network.load_state_dict(best)
        return network


def perceptron(num_features: int, hidden: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """``(batch, num_features)`` to ``(batch, 1)``; weights as torch draws them, but from ``generator``."""
    layers: list[nn.Module] = []
    for size in (*hidden, 1):
        linear = nn.utils.skip_init(nn.Linear, num_features, size)
        bound = num_features**-0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
        layers += [linear, nn.ReLU()]
        num_features = size
    return nn.Sequential(*layers[:-1])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
