"""What a network costs: MACs, parameters, latency."""

from oneshot.costs.additive import AdditiveLatency, AdditiveTable
from oneshot.costs.latency import Latency, measure_latency
from oneshot.costs.settings import CostSettings
from oneshot.costs.table import BlockCost, Cost, CostTable

__all__ = [
    "AdditiveLatency",
    "AdditiveTable",
    "BlockCost",
    "Cost",
    "CostSettings",
    "CostTable",
    "Latency",
    "measure_latency",
]
