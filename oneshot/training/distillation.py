"""What a network learns from another one's predictions: soft cross-entropy, KL or the adaptive alpha-divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from oneshot.arch import suggest
from oneshot.checking import check_least

_KINDS = ("cross_entropy", "kl", "alpha")
_NEAR = 1e-3  # the published code takes the limits of the alpha-divergence this near to 0 and 1


@dataclass(frozen=True)
class Distillation:
    """The loss of a network that has a teacher: ``ratio * soft loss + label_weight * loss on the labels``.

    Once-for-All's published code adds both with weight 1; BigNAS, AttentiveNAS and AlphaNet learn from the teacher alone.

    Args:
        kind: "cross_entropy" with the teacher's probabilities, "kl" (the same gradient, zero where both agree) or "alpha", the
            larger of two clipped alpha-divergences (Wang et al., AlphaNet, ICML 2021; published code, ``AdaptiveLossSoft``).
        ratio: weight of the soft loss.
        label_weight: weight of the loss on the labels.
        temperature: divides both networks' logits; the soft loss is multiplied by its square (Hinton et al., 2015, section 2).
        alpha_min, alpha_max: the two values of alpha.
        alpha_clip: the largest value of the ratio of probabilities to the power of alpha.
    """

    kind: str = "cross_entropy"
    ratio: float = 1.0
    label_weight: float = 0.0
    temperature: float = 1.0
    alpha_min: float = -1.0
    alpha_max: float = 1.0
    alpha_clip: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(
                f"distillation.kind is one of {', '.join(_KINDS)}, not {self.kind!r}{suggest(self.kind, _KINDS)}"
            )
        check_least(0, "distillation.", ratio=self.ratio, label_weight=self.label_weight)
        if self.ratio == 0 and self.label_weight == 0:
            raise ValueError("distillation.ratio and distillation.label_weight are both 0: nothing would be learned")
        for name in ("temperature", "alpha_clip"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"distillation.{name} is a finite number above 0, not {value}")
        if not self.alpha_min < self.alpha_max:
            raise ValueError(f"distillation.alpha_min {self.alpha_min} is not below alpha_max {self.alpha_max}")

    def loss(self, student: Tensor, teacher: Tensor, label_loss: Tensor) -> Tensor:
        """The loss for logits ``(batch, classes)`` of both networks, the mean over the batch."""
        total = self.label_weight * label_loss if self.label_weight else student.new_zeros(())
        return total + self.ratio * self.soft_loss(student, teacher) if self.ratio else total

    def soft_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The soft loss alone. That of "alpha" is a surrogate: its gradient is the divergence's, its value is not."""
        student, teacher = student.float() / self.temperature, teacher.detach().float() / self.temperature
        if self.kind == "cross_entropy":
            loss = cross_entropy(student, teacher.softmax(1))
        elif self.kind == "kl":
            loss = kl_div(log_softmax(student, 1), log_softmax(teacher, 1), reduction="batchmean", log_target=True)
        else:
            loss = self._adaptive_alpha(student, teacher)
        return loss * self.temperature**2

    def _adaptive_alpha(self, student: Tensor, teacher: Tensor) -> Tensor:
        """For each image the divergence, of those at ``alpha_min`` and ``alpha_max``, that is larger. As in the published code
        the gradient flows through the student's log-probabilities alone.
        """
        log_probs = log_softmax(student, 1)
        low, surrogate_low = self._divergence(log_probs, teacher, self.alpha_min)
        high, surrogate_high = self._divergence(log_probs, teacher, self.alpha_max)
        return torch.where(low > high, surrogate_low, surrogate_high).mean()

    def _divergence(self, log_probs: Tensor, teacher: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """The f-divergence of AlphaNet's published code for each image, and what has its gradient."""
        probs = log_probs.detach().exp()
        log_ratio = log_softmax(teacher, 1) - log_probs.detach()
        if abs(alpha) < _NEAR:
            clipped = log_ratio.clamp(max=math.log(self.alpha_clip))
            value, weight = -clipped, clipped - 1
        elif abs(alpha - 1) < _NEAR:
            # Not clipped in the published code: probabilities over probabilities, times the latter, are at most 1.
            ratio = log_ratio.exp()
            value, weight = ratio * log_ratio, ratio
        else:
            power = (alpha * log_ratio).exp().clamp(max=self.alpha_clip)
            constant = 1 / (alpha * (alpha - 1))
            value, weight = constant * (power - 1), power / alpha + constant
        return (probs * value).sum(1), -(probs * weight * log_probs).sum(1)
