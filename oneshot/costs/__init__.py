"""What a network costs: MACs, parameters, latency."""

from oneshot.costs.additive import AdditiveLatency, AdditiveTable
from oneshot.costs.expected import ExpectedCost
from oneshot.costs.latency import Latency, measure_latency
from oneshot.costs.layers import Layer, layer_name
from oneshot.costs.lookup import LatencyTable, LayerTime, TableCheck
from oneshot.costs.measuring import MeasureSettings, check_table, measure_table
from oneshot.costs.settings import CostSettings, RelativeCostSettings
from oneshot.costs.table import BlockCost, Cost, CostTable

__all__ = [
    "AdditiveLatency",
    "AdditiveTable",
    "BlockCost",
    "Cost",
    "CostSettings",
    "CostTable",
    "ExpectedCost",
    "Latency",
    "LatencyTable",
    "Layer",
    "LayerTime",
    "MeasureSettings",
    "RelativeCostSettings",
    "TableCheck",
    "check_table",
    "layer_name",
    "measure_latency",
    "measure_table",
]
