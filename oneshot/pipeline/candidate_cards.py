"""What is told about scored candidates: in a line, in a report, on the card of a file, and the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.data import ImageData
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.folders import Subnet, Trained, save_subnet
from oneshot.runs import write_text
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.graph import HasCells


@dataclass(frozen=True)
class CandidateCards:
    """What is known about scored candidates.

    Args:
        trained: the supernet they are subnets of.
        data: the images they were scored on.
        config: plain values kept with every subnet (how to load its data again).
    """

    scores: CandidateScores
    costs: CandidateCosts
    trained: Trained
    data: ImageData
    config: Mapping[str, Any]

    def candidate(self, arch: Arch) -> report.Candidate:
        """A scored candidate for the report; its latency only where that is known."""
        score, cost = self.scores.known[arch], self.costs.table.cost(arch)
        return report.Candidate(
            arch.to_dict(),
            score.accuracy,
            score.loss,
            cost.macs,
            cost.params,
            self.costs.known_latency(arch),
            self.scores.combined(arch),
            self.scores.is_whole(arch),
        )

    def subnet(self, arch: Arch) -> Subnet:
        """A scored candidate with the weights that it was scored with, inherited or repaired, and its card."""
        chosen = self.candidate(arch)
        card = {
            "macs": chosen.macs,
            "params": chosen.params,
            "latency_ms": chosen.latency_ms,
            **({} if chosen.latency_ms is None else {"latency_origin": self.costs.origin}),
            "held_out_accuracy": chosen.accuracy,
            "held_out_loss": chosen.loss,
            "held_out_images": self.scores.known[arch].num_images,
            **self.data.card(),
            "input_shape": list(self.scores.space.input_shape(arch)),
            "supernet": str(self.trained.folder_of(arch)),
        }
        if self.scores.evaluator.repair is not None:
            card["repair_images"] = len(self.scores.evaluator.fitted_on.images)
        if self.trained.stored_statistics:
            card["stored_statistics"] = True
        weights = self.scores.evaluator.subnet(arch).state_dict()
        return Subnet(self.scores.space, arch, weights, dict(self.config), card, self.data.record)


def save_candidate(folder: Path, subnet: Subnet, costs: CostTable) -> None:
    """Writes ``subnet.pt``, ``subnet.json`` and ``architecture.svg`` to ``folder``, and ``cell-*.svg`` and ``cell-*.dot``
    (Graphviz) where the network has cells.
    """
    save_subnet(folder / "subnet.pt", subnet)
    write_text(folder / "architecture.svg", report.architecture_svg(blocks_of(costs, subnet.arch)))
    for graph in graphs_of(subnet.space, subnet.arch):
        write_text(folder / f"cell-{graph.name}.svg", report.graph_svg(graph))
        write_text(folder / f"cell-{graph.name}.dot", report.graph_dot(graph))


def blocks_of(costs: CostTable, arch: Arch) -> list[report.Block]:
    """The network's blocks for the report, each with the options of the choices that belong to it."""
    blocks = []
    for cost in costs.blocks(arch):
        prefix = f"{cost.name}."
        options = {name.removeprefix(prefix): value for name, value in arch.items() if name.startswith(prefix)}
        options |= {
            name.rpartition(".")[2]: value for name, value in arch.items() if cost.name in (name, f"{name}.{value}")
        }
        blocks.append(report.Block(options=options, **vars(cost)))
    return blocks


def graphs_of(space: SearchSpace, arch: Arch) -> list[report.Graph]:
    """The cells of ``arch`` for the report; none in a space of plain chains."""
    graphs = space.graphs(arch) if isinstance(space, HasCells) else {}
    return [report.Graph(name, graph.nodes, graph.edges) for name, graph in graphs.items()]
