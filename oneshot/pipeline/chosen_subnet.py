"""Which subnet is retrained, and the supernet that it comes from."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import torch

from oneshot.costs import CostTable
from oneshot.data import ImageData
from oneshot.evaluation import Evaluator, RepairSettings, ScoreSettings
from oneshot.pipeline.folders import Subnet, Trained, load_supernet, read_arch

log = logging.getLogger(__name__)


def choose(
    subnet: Subnet, arch_file: Path | None, data: ImageData, evaluation: ScoreSettings, seed: int
) -> tuple[Subnet, Trained | None]:
    """The subnet to retrain, and the supernet that it comes from where its folder is still there.

    Args:
        arch_file: JSON of an architecture that is extracted from the same supernet in place of the subnet.
        evaluation: how what is extracted is scored.
        seed: of the images for its statistics.

    Raises:
        FileNotFoundError: another architecture is wanted, but the supernet's folder is gone.
        ValueError: the file holds no architecture of the space, or the supernet was trained on held-out or test images.
    """
    folder = Path(subnet.card.get("supernet", ""))
    trained = None
    if subnet.card.get("supernet"):
        with contextlib.suppress(FileNotFoundError):
            trained = load_supernet(folder)
            if trained.record is not None and data.record is not None:
                data.record.check_clean(trained.record, f"the supernet that lies in {folder} now")
        if trained is None and arch_file is None:
            taught = (
                "nothing is learned from the network that taught it, and " if "repair_images" in subnet.card else ""
            )
            log.warning("the supernet is not in %s any more: %sits largest subnet is not compared with", folder, taught)
    if arch_file is None:
        return subnet, trained
    arch = read_arch(arch_file, subnet.space)
    if trained is None:
        raise FileNotFoundError(f"the supernet {folder} is gone, so {arch_file} cannot be extracted from it")
    evaluator = Evaluator(
        trained.supernet.eval(),
        data,
        evaluation,
        device=torch.device("cpu"),
        seed=seed,
        repair=repair_as_found(trained, subnet),
        stored_statistics=trained.stored_statistics,
    )
    module, score, cost = evaluator.subnet(arch), evaluator(arch), CostTable(subnet.space).cost(arch)
    for note in evaluator.repair_notes():
        log.info("%s", note)
    card: dict[str, Any] = {
        **data.card(),
        "supernet": subnet.card["supernet"],
        "macs": cost.macs,
        "params": cost.params,
        "input_shape": list(subnet.space.input_shape(arch)),
        "held_out_accuracy": score.accuracy,
        "held_out_loss": score.loss,
        "held_out_images": score.num_images,
        **{name: subnet.card[name] for name in ("repair_images", "stored_statistics") if name in subnet.card},
    }
    return Subnet(subnet.space, arch, module.state_dict(), subnet.config, card, data.record), trained


def repair_as_found(trained: Trained, subnet: Subnet) -> RepairSettings | None:
    """As that of a subnet found in it was done."""
    images = subnet.card.get("repair_images")
    return None if images is None else trained.repair(int(images), True)
