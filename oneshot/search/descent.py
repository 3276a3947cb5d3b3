"""Single changes of architectures given as codes: all of them, and descents to the smallest value of a function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oneshot.spaces.coding import Codes, Coding


def minimise(
    coding: Coding, starts: Codes, value: Callable[[Codes], NDArray[np.float64]], fill: NDArray[np.int64]
) -> Codes:
    """Coordinate descent from each of ``starts``: sets each choice in turn to its best option until none improves. Choices that
    become active take the option that ``fill`` ``(num_choices,)`` has for them.

    The ends are the smallest of the whole space where ``value`` is a sum over unconditional choices, and local minima elsewhere.
    """
    ends, least = starts.copy(), value(starts)
    rows = np.arange(len(starts))
    improved = True
    while improved:
        improved = False
        for column, count in enumerate(coding.num_options.tolist()):
            tried = np.repeat(ends, count, axis=0)
            active = tried[:, column] >= 0
            tried[active, column] = np.tile(np.arange(count), len(ends))[active]
            tried = coding.canonical(np.where(tried < 0, fill, tried))
            reached = np.nan_to_num(value(tried), nan=np.inf, posinf=np.inf, neginf=-np.inf).reshape(len(ends), count)
            option = reached.argmin(axis=1)
            lower = reached[rows, option] < least
            ends[lower] = tried[rows * count + option][lower]
            least[lower] = reached[rows, option][lower]
            improved |= bool(lower.any())
    return ends


def single_changes(coding: Coding, code: Codes, rng: np.random.Generator) -> Codes:
    """The one architecture ``code`` ``(1, num_choices)`` with each active choice in turn set to each of its other options;
    choices that become active are drawn.
    """
    columns = np.repeat(np.arange(len(coding.num_options)), coding.num_options)
    options = np.concatenate([np.arange(count) for count in coding.num_options])
    others = (code[0, columns] >= 0) & (code[0, columns] != options)
    changed = np.repeat(code, np.count_nonzero(others), axis=0)
    changed[np.arange(len(changed)), columns[others]] = options[others]
    return coding.mutate(changed, 0.0, rng)
