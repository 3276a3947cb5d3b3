"""What a user of the commands types, and what is expected of the output."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "training"))

from child_processes import Finished

MY_SPACE = '''
"""Four networks; the name of a channel count is not that of any setting of the data."""

from torch import nn

from oneshot import Arch, Choice, Make, SearchSpace


class Block(nn.Sequential):
    def __init__(self, inputs: int, channels: int, kernel: int) -> None:
        super().__init__(nn.Conv2d(inputs, channels, kernel, 2, kernel // 2), nn.BatchNorm2d(channels), nn.ReLU())


class MySpace(SearchSpace):
    def __init__(self, num_classes: int = 10, resolution: int = 32, widths: tuple[int, ...] = (4, 8)) -> None:
        self.num_classes, self.resolution = num_classes, resolution
        self.choices = (Choice("width", tuple(widths)), Choice("kernel", (1, 3)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width = arch.integer("width")
        blocks = make("first", Block, 3, width, arch.integer("kernel")), make("second", Block, width, width, 3)
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), make("last", nn.Linear, width, self.num_classes))
'''

SMALL = ["data.image_size=8", "data.max_train_images=60", "data.held_out=40", "data.test=40", "trainer.batch_size=30"]
TRAIN = ["+space=my_space", *SMALL, "trainer.device=cpu", "calibration_images=32"]
CODE = "code=my_space.py"
SEARCH = ["supernet=supernet", CODE, "search=random", "search.num_samples=3", "evaluation.device=cpu"]


def expect_success(finished: Finished) -> Finished:
    assert (finished.code, finished.stderr) == (0, "")
    return finished


def expect_error(finished: Finished, script: str, pattern: str, code: int = 2) -> None:
    assert finished.code == code, finished.stderr
    (line,) = finished.error_lines
    assert line.startswith(f"{script}: ")
    assert re.search(pattern, line), line
    assert "Traceback" not in finished.stdout
