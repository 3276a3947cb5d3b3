"""timm's augmentation of single networks: Mixup, CutMix and RandAugment."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from oneshot.processes import Share
from oneshot.training.randomness import seeded


def make_mixup(
    mixup_alpha: float, cutmix_alpha: float, label_smoothing: float, num_classes: int
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """timm's Mixup and CutMix of a batch of prepared images and its labels, which become shares of classes; None where both
    strengths are 0.
    """
    if not (mixup_alpha or cutmix_alpha):
        return None
    from timm.data import Mixup

    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Mixup(
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        label_smoothing=label_smoothing,
        num_classes=num_classes,
    )
    return mix


def make_rand_augment(
    policy: str, mean: tuple[float, float, float], seed: int
) -> Callable[[Tensor, Share, int], Tensor]:
    """timm's RandAugment on each image of a uint8 batch ``(batch, 3, height, width)``; slow beside the batched augmentation. What
    happens to an image depends on its row of the batch, not on the process that has it.
    """
    from timm.data.auto_augment import rand_augment_transform
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image

    fill = tuple(round(255 * value) for value in mean)
    try:
        augment = rand_augment_transform(policy, {"img_mean": fill})
    except (AssertionError, ValueError) as error:
        raise ValueError(f"retrain.randaugment {policy!r} is not a policy of timm: {error}") from None

    def transform(images: Tensor, share: Share, step: int) -> Tensor:
        changed = []
        for row, image in enumerate(images.cpu(), start=share.start):
            with seeded("rand augment", seed, step, row):
                changed.append(pil_to_tensor(augment(to_pil_image(image))))
        return torch.stack(changed).to(images.device)

    return transform
