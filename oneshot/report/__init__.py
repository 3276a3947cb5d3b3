"""Self-contained HTML reports of searches and training runs, and the pictures of architectures as SVG.

A report is one file that opens anywhere: its style, its script and its data are inline and it asks the network
for nothing.
"""

from oneshot.report.diagram import architecture_svg
from oneshot.report.graph import graph_dot, graph_svg
from oneshot.report.model import (
    Block,
    Candidate,
    Cost,
    Curve,
    Graph,
    Metric,
    PolicyHistory,
    Ranking,
    RankingRow,
    Reference,
    SearchReport,
    TradeoffPoint,
    TradeoffReport,
    Value,
    Witnesses,
    WitnessRow,
)
from oneshot.report.original import speed_notes
from oneshot.report.search_page import write_search_report
from oneshot.report.tradeoff_page import write_tradeoff_report
from oneshot.report.training_page import write_training_report
from oneshot.report.untrained_page import (
    ScoredNetwork,
    UntrainedReport,
    UntrainedSearch,
    write_untrained_report,
)

__all__ = [
    "Block",
    "Candidate",
    "Cost",
    "Curve",
    "Graph",
    "Metric",
    "PolicyHistory",
    "Ranking",
    "RankingRow",
    "Reference",
    "ScoredNetwork",
    "SearchReport",
    "TradeoffPoint",
    "TradeoffReport",
    "UntrainedReport",
    "UntrainedSearch",
    "Value",
    "WitnessRow",
    "Witnesses",
    "architecture_svg",
    "graph_dot",
    "graph_svg",
    "speed_notes",
    "write_search_report",
    "write_tradeoff_report",
    "write_training_report",
    "write_untrained_report",
]
