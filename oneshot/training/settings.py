"""The trainer's settings, the same for supernets and for subnets that are retrained."""

from __future__ import annotations

from dataclasses import dataclass

from oneshot.arch import suggest
from oneshot.checking import check_least


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Args:
        epochs: passes over the training images; 0 is for supernets whose largest network is trained already.
        batch_size: images a step; a smaller training set is one batch.
        optimizer: a name of timm's optimizers ("sgd" with Nesterov momentum, "adamw", ...).
        lr: peak learning rate.
        lr_batch_size: the batch size that ``lr`` is meant for, which then grows in proportion to ``batch_size``; None leaves it.
        momentum: of optimizers that have one, such as SGD; the others ignore it.
        weight_decay: on all parameters but biases and normalisation.
        warmup_epochs: linear warm-up before the cosine, at most half of the epochs.
        min_lr: where the cosine ends.
        label_smoothing: of the cross-entropy.
        clip_grad: largest gradient norm (or value, by ``clip_mode``); None is off.
        clip_mode: "norm", "value" or "agc".
        ema_decay: decay of the moving average of the weights that is then used for ranking; None is off.
        average_epochs: the weights used for ranking are the mean of those at the ends of so many last epochs; None is off.
        amp: mixed precision.
        amp_dtype: its type, "bfloat16" or "float16" (with loss scaling); None is bfloat16 on a CUDA device that has it, float16
            on another, and no mixed precision on a CPU, most of which it makes slower.
        channels_last: memory format of the images and the weights.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        deterministic: on a CUDA device, only algorithms that give the same numbers every time, which are slower: without it a run
            there is repeated only nearly. On a CPU runs are repeated bit for bit anyway.
        sync_batch_norm: on CUDA devices, several processes normalise with the statistics of the whole batch rather than of their
            shares, as ``torch.nn.SyncBatchNorm``. One process alone does so anyway.
        threads: CPU threads; None leaves torch's own choice.
        seed: of the weights, the order of the images, the augmentation and the paths.
        log_every: steps between two lines of the log.
        eval_every: epochs between two evaluations; 0 evaluates at the end only.
        checkpoint_seconds: at most so long between two checkpoints.
        keep_checkpoints: how many to keep.
    """

    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.1
    lr_batch_size: int | None = None
    momentum: float = 0.9
    weight_decay: float = 4e-5
    warmup_epochs: float = 1.0
    min_lr: float = 0.0
    label_smoothing: float = 0.1
    clip_grad: float | None = 5.0
    clip_mode: str = "norm"
    ema_decay: float | None = None
    average_epochs: int | None = None
    amp: bool = True
    amp_dtype: str | None = None
    channels_last: bool = True
    device: str = "auto"
    deterministic: bool = False
    sync_batch_norm: bool = False
    threads: int | None = None
    seed: int = 0
    log_every: int = 10
    eval_every: int = 10
    checkpoint_seconds: float = 60.0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        check_least(0, "trainer.", epochs=self.epochs)
        check_least(1, "trainer.", batch_size=self.batch_size, log_every=self.log_every)
        check_least(1, "trainer.", keep_checkpoints=self.keep_checkpoints)
        check_least(0, "trainer.", eval_every=self.eval_every, lr=self.lr, min_lr=self.min_lr)
        if self.min_lr > self.lr:
            raise ValueError(f"trainer.min_lr is at most trainer.lr={self.lr}, not {self.min_lr}")
        check_least(0, "trainer.", weight_decay=self.weight_decay, warmup_epochs=self.warmup_epochs)
        check_least(0, "trainer.", checkpoint_seconds=self.checkpoint_seconds)
        if self.lr_batch_size is not None and self.lr_batch_size < 1:
            raise ValueError(f"trainer.lr_batch_size is at least 1, or null for no scaling, not {self.lr_batch_size}")
        for name in ("momentum", "label_smoothing", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"trainer.{name} lies between 0 and 1, not {value}")
        if self.clip_grad is not None and not self.clip_grad > 0:
            raise ValueError(f"trainer.clip_grad is above 0, or null for none, not {self.clip_grad}")
        if self.clip_mode not in ("norm", "value", "agc"):
            raise ValueError(f"trainer.clip_mode is 'norm', 'value' or 'agc', not {self.clip_mode!r}")
        if self.amp_dtype not in (None, "bfloat16", "float16"):
            raise ValueError(
                f"trainer.amp_dtype is 'bfloat16' or 'float16', or null for the device's own, not {self.amp_dtype!r}"
            )
        if self.average_epochs is not None and not 1 <= self.average_epochs <= self.epochs:
            raise ValueError(
                f"trainer.average_epochs lies from 1 to the {self.epochs} epochs, or is null for none, not {self.average_epochs}"
            )
        if self.average_epochs is not None and self.ema_decay is not None:
            raise ValueError(
                "one average of the weights is kept: trainer.ema_decay or trainer.average_epochs, not both"
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"trainer.threads is at least 1, or null for torch's choice, not {self.threads}")


def check_optimizer(name: str) -> None:
    """Raises ValueError, with the nearest name, unless timm has an optimizer of this name."""
    from timm.optim import list_optimizers

    known: list[str] = list_optimizers()
    if name.lower() not in known:
        raise ValueError(
            f"trainer.optimizer {name!r} is not one of timm's{suggest(name, known) or ': ' + ', '.join(known[:8])}"
        )
