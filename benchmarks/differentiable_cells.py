"""What search by gradient finds among cells (NAS-Bench-201, DARTS) in equal processor time, with a truth of this machine's own.

    python train_supernet.py +space=nasbench201 space.channels=8 space.num_cells=1 ... run=runs/supernet/cells
    python search_subnet.py supernet=runs/supernet/cells search=random search.num_samples=32 truth=retrain:32 \\
      retrain.weights=scratch trainer.epochs=5 trainer.lr=0.1 trainer.batch_size=128 run=runs/search/cells
    python benchmarks/differentiable_cells.py runs/search/cells/retrained/truth.json cifar10 --scale-rate --seeds 0

docs/results.md has the first command whole. The table holds the test accuracies of random cells, each trained alone from scratch;
what a method derives is trained in the same way, and its rank is the number of those that are better, and one. With ``--space
darts`` all of this is of the cells of DARTS, four in a network. Everything else is as in ``differentiable.py``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from differentiable import METHODS, ROOT, Comparison, Method, main

from oneshot.arch import Arch

METHODS["pc_darts"] = Method(("trainer.lr=0.1",), first_epoch=15)  # edges that compete, which chains have not
TRAINING = (
    "retrain.weights=scratch",
    "trainer.epochs=5",
    "trainer.lr=0.1",
    "trainer.batch_size=128",
    "trainer.threads=1",
)


SPACES = {
    "nasbench201": ("space.num_cells=1", 6),
    "darts": ("space.num_cells=4", 16),
}  # their size, edges of a derived network


class Cells(Comparison):
    """A comparison whose networks are trained for their true accuracy."""

    def space_settings(self) -> list[str]:
        space = self.options.space
        return [
            f"+space={space}", "space.channels=8", SPACES[space][0], "data=image_folder", "data.image_size=16",
            "data.held_out=5000", "data.augmentation.crop_padding=2", "data.augmentation.crop_scale=[1.0,1.0]",
            "data.augmentation.crop_ratio=[1.0,1.0]", "trainer.batch_size=128",
        ]  # fmt: skip

    def judged(self, arch: Arch, folder: Path) -> dict[str, Any]:
        found, trained = folder / "search", folder / "retrained"
        if not found.is_dir():
            command = ["search_subnet.py", f"supernet={folder}", "search=derivation", "evaluation.threads=1"]
            self.program(*command, f"run={found}")
        self.program("retrain_subnet.py", f"subnet={found}", *TRAINING, f"run={trained}")
        return self.described(arch, json.loads((trained / "retrain.json").read_text())["test_accuracy"])

    def program(self, *words: str) -> None:
        subprocess.run([sys.executable, str(ROOT / words[0]), *words[1:]], check=True, capture_output=True)

    def table(self) -> None:
        values = sorted((100 * accuracy for accuracy in self.truth.values()), reverse=True)
        print(
            f"| method | test accuracy | rank beside {len(values)} random cells | skips of {SPACES[self.options.space][1]} "
            "| epochs | processor seconds |"
        )
        print("| --- | --- | --- | --- | --- | --- |")
        for (method, seed), row in sorted(self.rows.items()):
            cells = [f"{row['accuracy']:.2f}", *(str(row[key]) for key in ("rank", "skips", "epochs"))]
            cells.append(f"{row['seconds'] + row['search_seconds']:.0f}")
            print(f"| `{method}`, seed {seed} | {' | '.join(cells)} |")
        print(
            f"| random cells | {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}, best {values[0]:.2f} | | | | 0 |"
        )


if __name__ == "__main__":
    main(Cells, __doc__, spaces=tuple(SPACES))
