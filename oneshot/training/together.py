"""What several processes that train one network make of the parts of a step that each of them has computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from oneshot.processes import Share, add_up, as_first, count, gathered
from oneshot.training.tasks import StepResult, Task

log = logging.getLogger(__name__)


def begin_together(modules: Iterable[nn.Module], step: int, share: Share, folder: Path) -> None:
    """Lets all processes begin with the weights that the first has.

    Raises:
        ValueError: they are not at the same step: they have found different checkpoints.
    """
    if count() == 1:
        return
    steps = gathered(step)
    if len({*steps}) > 1:
        raise ValueError(
            f"the {count()} processes find different checkpoints in {folder} (steps {', '.join(map(str, steps))}): it must be "
            "one folder that all of them see"
        )
    for module in {id(module): module for module in modules}.values():
        as_first([value.detach() for value in module.state_dict().values()])
    log.info("training on %d processes: %d of %d images of a step here", count(), share.stop - share.start, share.total)


class StepSum:
    """Makes of each process's part of a step the whole: gradients, each the sum of those of the weighted losses, and loss and
    accuracy. Running statistics become the means of theirs: that of the variances leaves out how far the means lie apart.

    All of it is one tensor that the processes add up once a step. Parameters without a gradient stay so.
    """

    def __init__(self, task: Task, share: Share) -> None:
        self._parameters, self._share = list(task.module.parameters()), share
        names = () if task.statistics == "stored" else ("running_mean", "running_var")
        self._statistics = [values for name, values in task.module.named_buffers() if name.rpartition(".")[2] in names]

    def __call__(self, result: StepResult, stop: bool) -> tuple[StepResult, bool]:
        """The result of the whole batch, and whether any process was asked to stop."""
        if count() == 1:
            return result, stop
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        said = torch.stack([result.loss.float(), result.accuracy.float()]) * self._share.weight
        stops = torch.full_like(said[:1], float(stop))
        for values in self._statistics:
            values.mul_(self._share.weight)
        add_up([*gradients, *self._statistics, said, stops])
        return StepResult(said[0], said[1]), bool(stops > 0)
