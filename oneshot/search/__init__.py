"""Search strategies: which architectures to score, and which of them to return."""

from oneshot.search.coded import CodedProblem, CodedResult, CodedStrategy
from oneshot.search.controller import ControllerSearch
from oneshot.search.derivation import Derivation
from oneshot.search.evolution import Evolution
from oneshot.search.exhaustive import Exhaustive
from oneshot.search.local import LocalSearch
from oneshot.search.nsga2 import NSGA2
from oneshot.search.pareto import pareto_front
from oneshot.search.problem import Problem, Score
from oneshot.search.random_search import RandomSearch
from oneshot.search.strategy import Strategy

__all__ = [
    "NSGA2",
    "CodedProblem",
    "CodedResult",
    "CodedStrategy",
    "ControllerSearch",
    "Derivation",
    "Evolution",
    "Exhaustive",
    "LocalSearch",
    "Problem",
    "RandomSearch",
    "Score",
    "Strategy",
    "pareto_front",
]
