"""What a report is made of: plain values, no tensors and no modules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = int | float | str | bool
Metric: TypeAlias = Literal["accuracy", "loss"]
Cost: TypeAlias = Literal["macs", "params", "latency_ms"]


@dataclass(frozen=True)
class Candidate:
    """One evaluated architecture.

    ``accuracy`` is a fraction of the held-out split, ``latency_ms`` is None where it was not measured, ``combined`` what all
    witnesses together give it, where these rank. ``is_whole`` is False of what was scored on a part of the images alone, which is
    not compared with the others.
    """

    arch: Mapping[str, Value]
    accuracy: float
    loss: float
    macs: int
    params: int
    latency_ms: float | None
    combined: float | None = None
    is_whole: bool = True


@dataclass(frozen=True)
class Block:
    """One block of the chosen network; a sequence of them is in execution order.

    ``name`` is dotted ("stage1.block2") and its first part is the stage the block is drawn in. ``options`` are the
    choices that belong to the block. Shapes are (channels, height, width) or (features,).
    """

    name: str
    kind: str
    options: Mapping[str, Value]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    macs: int
    params: int


@dataclass(frozen=True)
class Graph:
    """A cell: ``nodes`` each after those that it reads, inputs first and the output last, and ``edges`` of source, target and
    operation (empty where a value is passed on as it is).
    """

    name: str
    nodes: Sequence[str]
    edges: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class RankingRow:
    """One figure about several ways to rank: for each of them its text and a detail such as an interval, which may be empty."""

    name: str
    cells: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Ranking:
    """How candidates were ranked, judged by true accuracies.

    ``rows`` have a cell for each of ``headings``. ``truth`` holds the true accuracies (fractions) of a search's candidates
    and then of its baseline, None where one is unknown; ``others`` are networks that were ranked beside these, with
    ``others_truth``. ``caption`` is a sentence or two under the table.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[RankingRow]
    truth: Sequence[float | None] = ()
    others: Sequence[Candidate] = ()
    others_truth: Sequence[float] = ()


@dataclass(frozen=True)
class WitnessRow:
    """One witness: of which family it is, how far it agrees with itself and with the others, and what it counts; numbers are None
    where there are none.
    """

    name: str
    family: str
    reliability: float | None
    agreement: float | None
    weight: float | None


@dataclass(frozen=True)
class Witnesses:
    """How far witnesses agree: ``correlations`` has a row and a column for each of ``rows``; ``caption`` is under the table."""

    caption: str
    rows: Sequence[WitnessRow]
    correlations: Sequence[Sequence[float]]


@dataclass(frozen=True)
class SearchReport:
    """Everything the page of one search shows.

    ``candidates`` (by the strategy) and ``baseline`` (random search at equal budget) are in order of evaluation;
    ``front`` and ``best`` index ``candidates``. ``cost`` is the x axis shown first. ``limits`` are named ``max_`` or ``min_``
    and a cost or metric ("max_macs"); ``notes`` are the sentences under "how far to trust this", ``graphs`` the
    cells of the chosen network, where it has any. ``exhaustive`` says that every network within the limits is among
    ``candidates``; ``ranking`` is None where no true accuracies are known, ``witnesses`` where none were compared.
    ``chosen_by`` says in words by what the best was chosen where that is not the metric; ``rival`` is the index of the
    ``baseline``'s best by the same, None where these are not compared. ``original`` is the network that the space was made of,
    as the supernet holds it. ``found`` is the index of the strategy's own best where a network is kept that was scored
    elsewhere, which is the last of ``candidates`` then.
    """

    title: str
    space: str
    data: str
    strategy: str
    metric: Metric
    cost: Cost
    limits: Mapping[str, float]
    candidates: Sequence[Candidate]
    baseline: Sequence[Candidate]
    front: Sequence[int]
    best: int
    blocks: Sequence[Block]
    facts: Mapping[str, str]
    notes: Sequence[str]
    graphs: Sequence[Graph] = ()
    exhaustive: bool = False
    ranking: Ranking | None = None
    witnesses: Witnesses | None = None
    chosen_by: str = ""
    rival: int | None = None
    original: Candidate | None = None
    found: int | None = None

    @property
    def own(self) -> Sequence[Candidate]:
        """What the strategy itself evaluated."""
        return self.candidates if self.found is None else self.candidates[:-1]

    @property
    def own_best(self) -> Candidate:
        """The best of it."""
        return self.candidates[self.best if self.found is None else self.found]


@dataclass(frozen=True)
class TradeoffPoint:
    """The best network under one limit.

    ``cost`` is the limited cost of the network itself. Accuracies are fractions: ``predicted`` is None without a
    predictor, ``accuracy`` (inherited weights, held-out images) is None without a supernet, ``baseline`` (the best of
    random search at equal budget under this limit) is None where there is none. ``baseline`` is on the scale of
    ``accuracy``, or on that of ``predicted`` where there is no ``accuracy``. ``blocks`` may be empty. ``loss`` and
    ``baseline_loss`` are those of the same networks, None where they are not known. ``found`` and ``found_loss`` are those of
    the strategy's own best where a network is kept that was scored elsewhere, None where it is the same.
    """

    limit: float
    arch: Mapping[str, Value]
    cost: float
    macs: int
    params: int
    latency_ms: float | None
    predicted: float | None
    accuracy: float | None
    baseline: float | None
    blocks: Sequence[Block]
    loss: float | None = None
    baseline_loss: float | None = None
    found: float | None = None
    found_loss: float | None = None


@dataclass(frozen=True)
class Reference:
    """A network known from elsewhere, to compare with: its limited cost and its accuracy as a fraction."""

    name: str
    cost: float
    accuracy: float


@dataclass(frozen=True)
class TradeoffReport:
    """Everything the page of one search under a list of limits shows.

    ``cost`` is what is limited, ``points`` are in rising order of their limits, ``predictor`` is "" without one.
    ``scored`` holds the cost and the accuracy of every candidate that the supernet scored; it may be empty.
    ``notes`` are the sentences under "how far to trust this"; ``ranking`` is None where no true accuracies are known, and
    only its table is shown; ``witnesses`` is None where none were compared. ``original`` is the network that the space was made
    of, as the supernet holds it. ``metric`` is what the best under each limit, and of random search, were chosen by;
    ``chosen_by`` says in words by what where that is not the metric.
    """

    title: str
    space: str
    data: str
    strategy: str
    predictor: str
    cost: Cost
    points: Sequence[TradeoffPoint]
    scored: Sequence[tuple[float, float]]
    references: Sequence[Reference]
    facts: Mapping[str, str]
    notes: Sequence[str]
    ranking: Ranking | None = None
    witnesses: Witnesses | None = None
    original: Candidate | None = None
    metric: Metric = "accuracy"
    chosen_by: str = ""

    @property
    def by_loss(self) -> bool:
        """Whether a loss decided, which every network has."""
        return self.metric == "loss" and not self.chosen_by and all(point.loss is not None for point in self.points)


@dataclass(frozen=True)
class Curve:
    """One line of a training chart: ``values[i]`` was recorded at ``steps[i]``."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class PolicyHistory:
    """How a sampling policy changed: ``probabilities[choice][option]`` holds one number for each of ``steps``, NaN where the
    choice was inactive in all architectures that were drawn. Where options are mixed, ``are_weights``, the numbers are the
    strengths of the options, which need not add up to 1.
    """

    steps: Sequence[int]
    probabilities: Mapping[str, Mapping[str, Sequence[float]]]
    are_weights: bool = False
