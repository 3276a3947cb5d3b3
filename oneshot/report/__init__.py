"""Self-contained HTML reports of a search and of a training run, and the architecture diagram as SVG.

A report is one file that opens anywhere: its style, its script and its data are inline and it asks the network
for nothing.
"""

from oneshot.report.diagram import architecture_svg
from oneshot.report.model import Block, Candidate, Cost, Curve, Metric, SearchReport, Value
from oneshot.report.search import write_search_report
from oneshot.report.training import write_training_report

__all__ = [
    "Block",
    "Candidate",
    "Cost",
    "Curve",
    "Metric",
    "SearchReport",
    "Value",
    "architecture_svg",
    "write_search_report",
    "write_training_report",
]
