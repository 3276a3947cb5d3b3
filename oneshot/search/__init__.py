"""Search strategies: which architectures to score, and which of them to return."""

from oneshot.pareto import pareto_front
from oneshot.search.controller import ControllerSearch
from oneshot.search.derivation import Derivation
from oneshot.search.evolution import Evolution
from oneshot.search.exhaustive import Exhaustive
from oneshot.search.history import Evaluated, History
from oneshot.search.knapsack import Knapsack
from oneshot.search.local import LocalSearch
from oneshot.search.nsga2 import NSGA2
from oneshot.search.perturbation import Perturbation
from oneshot.search.problem import Problem
from oneshot.search.random_search import RandomSearch
from oneshot.search.strategy import Strategy

__all__ = [
    "NSGA2",
    "ControllerSearch",
    "Derivation",
    "Evaluated",
    "Evolution",
    "Exhaustive",
    "History",
    "Knapsack",
    "LocalSearch",
    "Perturbation",
    "Problem",
    "RandomSearch",
    "Strategy",
    "pareto_front",
]
