"""Several scores put together by the ranks that they give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.float64]

AZ_NAS = ("az_expressivity", "az_progressivity", "az_trainability", "macs")
"""The four scores that AZ-NAS puts together."""


def log_rank_sum(values: Mapping[str, Values]) -> Values:
    """``(num_archs,)``: the sum over scores of ``log(rank / num_archs)``, where the largest value of a score has rank
    ``num_archs`` and equal ones share their mean rank (AZ-NAS; Lee and Ham, CVPR 2024, section 3.3). A network that is good by
    every score comes before one that is excellent by some and poor by others. NaN ranks like minus infinity.

    Args:
        values: ``(num_archs,)`` for each score, higher is better.
    """
    columns = [np.nan_to_num(one, nan=-np.inf, posinf=np.inf, neginf=-np.inf) for one in values.values()]
    total: Values = np.sum([np.log(rankdata(one) / len(one)) for one in columns], axis=0)
    return total
