"""RobustDARTS's early stopping (Zela et al., ICLR 2020, section 5.1): an architecture is frozen before its loss becomes sharp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oneshot.checking import check_count


@dataclass(frozen=True)
class EarlyStopping:
    """Watches the largest eigenvalue of the Hessian of the architecture's loss with respect to its parameters. Where the mean
    over a window has grown too much since ``distance`` windows before, the architecture goes back to where that earlier window
    has its centre, and learns no more (code ``src/utils.py``, ``EVLocalAvg``).

    Args:
        every: epochs from one eigenvalue to the next; published 2.
        window: eigenvalues in a mean, around the one in its middle; published 5, of which early ones have 3 or 4.
        distance: eigenvalues between the two windows; published 4.
        ratio: of the earlier mean to the later one below which it stops; published 0.75 (in the code, the inverse is 1.3). None
            stops never: the eigenvalue is recorded.
        first_epoch: it never goes back to an earlier epoch; published 10.

    Raises:
        ValueError: a setting is out of range.
    """

    every: int = 2
    window: int = 5
    distance: int = 4
    ratio: float | None = 0.75
    first_epoch: int = 10

    def __post_init__(self) -> None:
        where = "sampler.learning.stopping."
        check_count(1, where, every=self.every, window=self.window, distance=self.distance)
        check_count(0, where, first_epoch=self.first_epoch)
        if self.window % 2 == 0:
            raise ValueError(f"{where}window has a middle: an odd number of eigenvalues, not {self.window}")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"{where}ratio is between 0 and 1, or null to stop never, not {self.ratio}")

    def measures(self, epoch: int, epochs: int) -> bool:
        """Whether there is an eigenvalue after that epoch: every so many, and the last."""
        return epoch % self.every == 0 or epoch == epochs - 1

    def can_stop(self, epochs: int) -> bool:
        """Whether a training of so many epochs is long enough for ``back_to`` to compare two windows."""
        measured = [epoch for epoch in range(epochs) if self.measures(epoch, epochs)]
        needed = self.distance + self.window // 2 + 1
        return len(measured) >= needed and measured[-needed] >= self.first_epoch

    def back_to(self, epochs: Sequence[int], eigenvalues: Sequence[float]) -> int | None:
        """The position of the epoch to go back to, given all that was measured so far; None to go on."""
        half = self.window // 2
        later = len(eigenvalues) - 1 - half
        earlier = later - self.distance
        if self.ratio is None or earlier < 0 or epochs[earlier] < self.first_epoch:
            return None
        before, now = (_mean(eigenvalues, middle, half) for middle in (earlier, later))
        return earlier if 0 < before < self.ratio * now else None


def _mean(values: Sequence[float], middle: int, half: int) -> float:
    window = values[max(0, middle - half) : middle + half + 1]
    return sum(window) / len(window)
