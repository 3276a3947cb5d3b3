"""Training of supernets and subnets."""

from oneshot.training.architecture import ArchitectureImages, ArchitectureTask
from oneshot.training.batches import batches_of
from oneshot.training.checkpoint import CheckpointError, list_checkpoints, load_checkpoint, load_newest, save_checkpoint
from oneshot.training.distillation import Distillation
from oneshot.training.fine_tuning import fine_tuning_rate
from oneshot.training.norms import freeze_norms
from oneshot.training.phases import PhaseSettings, plan_phases
from oneshot.training.rewards import HeldOutReward
from oneshot.training.settings import TrainSettings
from oneshot.training.tasks import NonFiniteLossError, SubnetTask, SupernetTask, Task
from oneshot.training.trainer import Interrupted, RunPart, Trainer, check_run

__all__ = [
    "ArchitectureImages",
    "ArchitectureTask",
    "CheckpointError",
    "Distillation",
    "HeldOutReward",
    "Interrupted",
    "NonFiniteLossError",
    "PhaseSettings",
    "RunPart",
    "SubnetTask",
    "SupernetTask",
    "Task",
    "TrainSettings",
    "Trainer",
    "batches_of",
    "check_run",
    "fine_tuning_rate",
    "freeze_norms",
    "list_checkpoints",
    "load_checkpoint",
    "load_newest",
    "plan_phases",
    "save_checkpoint",
]
