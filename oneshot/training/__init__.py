"""Training of supernets and subnets."""

from oneshot.training.checkpoint import CheckpointError, list_checkpoints, load_checkpoint, load_newest, save_checkpoint
from oneshot.training.settings import TrainSettings
from oneshot.training.tasks import NonFiniteLossError, SubnetTask, SupernetTask, Task
from oneshot.training.trainer import Interrupted, Trainer, resolve_device

__all__ = [
    "CheckpointError",
    "Interrupted",
    "NonFiniteLossError",
    "SubnetTask",
    "SupernetTask",
    "Task",
    "TrainSettings",
    "Trainer",
    "list_checkpoints",
    "load_checkpoint",
    "load_newest",
    "resolve_device",
    "save_checkpoint",
]
