"""The network that a space was made of, beside the ones that were found in it: shares of its costs, and a word on its speed."""

import math
from collections.abc import Sequence

from oneshot.report.model import Candidate, Cost, TradeoffPoint
from oneshot.report.selection import COSTS, cost_of
from oneshot.report.units import SPACE

ORIGINAL = "original"
COST_WORDS: dict[Cost, str] = {"macs": "MACs", "params": "parameters", "latency_ms": "latency"}
_COMPARED: tuple[Cost, Cost] = ("macs", "latency_ms")
_SLOW = 0.5  # time saved over multiply-accumulates saved below which fewer of them are hardly faster


def share_of_original(original: Candidate, network: Candidate | TradeoffPoint, cost: Cost) -> float | None:
    """A cost of a network over the original's; None where one of them is not known."""
    part, whole = cost_of(network, cost), cost_of(original, cost)
    return None if part is None or not whole or not math.isfinite(part) else part / whole


def format_percent(share: float | None) -> str:
    """A share of the original as a percentage; a dash for None."""
    return "\u2013" if share is None else f"{100 * share:.0f}{SPACE}%"


def share_heading(cost: Cost) -> str:
    """The heading of a column of shares of the original's cost."""
    return f"%{SPACE}of {COST_WORDS[cost]}"


def shared_costs(original: Candidate, networks: Sequence[Candidate | TradeoffPoint]) -> list[Cost]:
    """The costs of which a share of the original's is known for one network at least."""
    return [
        cost for cost in COSTS if any(share_of_original(original, network, cost) is not None for network in networks)
    ]


def speed_notes(original: Candidate, networks: Sequence[Candidate | TradeoffPoint]) -> list[str]:
    """A sentence about the networks, if there are such, that save less than half as large a part of the time as of the
    multiply-accumulates.
    """
    slow = []
    for network in networks:
        macs, time = (share_of_original(original, network, cost) for cost in _COMPARED)
        if macs is not None and time is not None and macs < 1 and 1 - time < _SLOW * (1 - macs):
            slow.append((format_percent(macs), format_percent(time)))
    if not slow:
        return []
    (macs_text, time_text), *others = dict.fromkeys(slow)
    more = "".join(f", {macs} take {time}" for macs, time in others)
    return [
        f"{macs_text} of the original's MACs take {time_text} of its time on this machine{more}: cost.max_latency_ms limits the "
        "time itself."
    ]
