"""What can be set about scores with inherited weights."""

from __future__ import annotations

from dataclasses import dataclass

from oneshot.checking import check_least


@dataclass(frozen=True)
class ScoreSettings:
    """How one candidate is scored.

    Args:
        calibration_images: training images, the same for every candidate, on which its BatchNorm statistics are measured.
        max_images: held-out images to score on, drawn at random, the same for every candidate; None is all.
        batch_size: images a forward pass.
        channels_last: memory format of the images.
        memory_limit_gb: GiB that may be kept of one candidate for others that begin alike; what does not fit is computed again,
            and at 0 each is scored alone.
    """

    calibration_images: int = 512
    max_images: int | None = None
    batch_size: int = 256
    channels_last: bool = True
    memory_limit_gb: float = 2.0

    def __post_init__(self) -> None:
        check_least(2, "evaluation.", calibration_images=self.calibration_images)
        check_least(1, "evaluation.", batch_size=self.batch_size, max_images=self.max_images)
        check_least(0, "evaluation.", memory_limit_gb=self.memory_limit_gb)
