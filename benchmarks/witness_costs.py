"""What each witness costs: processor seconds a network for its inherited loss and for scores of untrained networks, one thread.

    python benchmarks/witness_costs.py [--networks 8]

Scores that are asked together share passes through the network, so all of them cost less than their sum. The loss takes
``--calibration-images`` and the held-out images of the digits; it grows with their number, the others do not.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

import torch

from oneshot.arch import Arch
from oneshot.data import digits
from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.pipeline.search_settings import CombinationSettings
from oneshot.spaces import NASBench201, NASBenchMacro, OFAMobileNetV3
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training_free import TrainingFreeScores, scores_called

SPACES: dict[str, Callable[[], SearchSpace]] = {
    "nasbench_macro, 8 channels, 16 px": lambda: NASBenchMacro(10, 16, channels=8, head_channels=320),
    "nasbench201, 8 channels, 1 cell, 16 px": lambda: NASBench201(10, 16, channels=8, num_cells=1),
    "nasbench_macro, 32 px": lambda: NASBenchMacro(10),
    "ofa, 32 px": lambda: OFAMobileNetV3(num_classes=10, resolutions=(32,)),
    "ofa, 64 px": lambda: OFAMobileNetV3(num_classes=10, resolutions=(64,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--calibration-images", type=int, default=512)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    names = CombinationSettings().untrained
    for title, make in SPACES.items():
        space = make()
        archs = [space.sample(random.Random(index)) for index in range(asked.networks + 1)]
        ways: dict[str, Callable[[Sequence[Arch]], object]] = {}
        for together in (*((name,) for name in names), names):
            scores = TrainingFreeScores(space, data, scores_called(together))
            ways[together[0] if len(together) == 1 else "all of these"] = scores.values
        settings = ScoreSettings(asked.calibration_images)
        evaluator = Evaluator(Supernet(space).eval(), data, settings, device=torch.device("cpu"))
        number = asked.calibration_images + len(data.held_out)
        ways[f"loss, {number} images"] = lambda archs, evaluator=evaluator: dict(evaluator.scores(archs))  # type: ignore[misc]
        print(title, flush=True)
        for name, way in ways.items():
            way(archs[-1:])  # the first call makes what later ones find
            started = time.process_time()
            way(archs[:-1])
            print(f"  {name:24} {(time.process_time() - started) / asked.networks:.3f} s", flush=True)


if __name__ == "__main__":
    main()
