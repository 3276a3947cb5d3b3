"""Which set each image of a data set belongs to, in a run that makes its own split: no content ever lies in two sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from oneshot.data.pool import WORDS, Pool, counted
from oneshot.data.record import SETS, Recorded
from oneshot.data.splitting import Fixed, stratified_split, stratified_subset

_LOGGER = logging.getLogger(__name__)
_NOWHERE = -1


def assign(
    pool: Pool,
    shares: Mapping[str, float | int],
    seed: int,
    max_train_images: int | None,
    recorded: Recorded | None = None,
) -> dict[str, Tensor]:
    """Assign the images of a data set to its sets.

    Copies of held-out and test images are left out of training, copies of test images out of the held-out ones; copies within
    what is split at random stay together. Images that ``recorded`` knows keep the set that they had, wherever they lie now.

    Args:
        pool: the images.
        shares: the sets to split off the training images, and their sizes.
        seed: of the split.
        max_train_images: so many training images at most; the rest is unused.
        recorded: the split of the run whose weights this one starts from.

    Returns:
        Indices into the pool by set, ``"unused"`` among them.

    Raises:
        ValueError: most images of a class of one set are in another one as well, or what ``stratified_split`` raises.
    """
    first = _first_copies(pool.digests)
    _warn_of_two_labels(pool, first)
    sets = pool.places.clone()
    sets[_copies_elsewhere(pool)] = _NOWHERE
    part_of = {"train": 0, **{name: position for position, name in enumerate(shares, 1)}}
    part = torch.full_like(sets, -1)
    if recorded is not None:
        known = known_sets(pool, recorded)
        _check_trained_on(pool, sets, known, recorded)
        sets = torch.where((sets >= 0) & (known >= 0), known, sets)
        for name, position in part_of.items():
            part[known == SETS.index(name)] = position
        if (known >= 0).any():
            _LOGGER.info(
                "%d of %d images are known from %s and keep their sets; data.split_seed, data.held_out and data.test "
                "decide about the others only", int((known >= 0).sum()), len(known), recorded.origin,
            )  # fmt: skip
        elif recorded.same_classes and pool.classes == recorded.record.classes:
            _LOGGER.warning(
                "none of the %d images is known from %s: if they are its images in another form, such as another size or format, "
                "held-out and test images may be ones that it was trained on", len(known), recorded.origin,
            )  # fmt: skip
    splittable = torch.isin(sets, torch.tensor([SETS.index(name) for name in part_of]))
    to_split = ((pool.places == 0) & splittable).nonzero().flatten()
    firsts = _first_copies(pool.digests[to_split])
    split = stratified_split(pool.labels[to_split], shares, pool.classes, seed, Fixed(firsts, part[to_split]))
    for name, indices in split.items():
        sets[to_split[indices]] = SETS.index(name)
    result = {name: (sets == position).nonzero().flatten() for position, name in enumerate(SETS)}
    if recorded is not None:
        _check_something_left(pool, result, shares, recorded)
    result["unused"] = result["train"][:0]
    if max_train_images is not None:
        kept = torch.zeros(len(result["train"]), dtype=torch.bool)
        kept[stratified_subset(pool.labels[result["train"]], max_train_images, pool.classes, seed)] = True
        result |= {"train": result["train"][kept], "unused": result["train"][~kept]}
    return result


def known_sets(pool: Pool, recorded: Recorded) -> Tensor:
    """For each image of the pool the set that it had, as an index into ``SETS``, or -1 if it is not known.

    Images that were merely left out of training belong to it, as do those that only earlier runs trained on.
    """
    record = recorded.record
    known = torch.full_like(pool.places, -1)
    for position, name in enumerate(SETS):
        digests = record.images[name]
        if name == "train":
            digests = torch.cat([record.trained_on, record.images["unused"]])
        known[torch.isin(pool.digests, digests)] = position
    return known


def _first_copies(digests: Tensor) -> Tensor:
    """For each image the index of the first one with the same content."""
    contents, inverse = digests.unique(return_inverse=True)
    order = torch.arange(len(digests))
    first = torch.full((len(contents),), len(digests)).scatter_reduce_(0, inverse, order, "amin")
    return first[inverse]


def _warn_of_two_labels(pool: Pool, first: Tensor) -> None:
    differ = (pool.labels != pool.labels[first]).nonzero().flatten()
    if len(differ):
        one, other = differ[0], first[differ[0]]
        _LOGGER.warning(
            "%s a copy of one in another class, such as %s (%s) and %s (%s)",
            counted(len(differ)), pool.name(other), pool.class_name(other), pool.name(one), pool.class_name(one),
        )  # fmt: skip


def _copies_elsewhere(pool: Pool) -> Tensor:
    """Which images have a copy in the folder of a later set, which counts for more."""
    contents, inverse = pool.digests.unique(return_inverse=True)
    last = torch.zeros(len(contents), dtype=torch.int64).scatter_reduce_(0, inverse, pool.places, "amax")[inverse]
    copied = pool.places < last
    for place, name in enumerate(SETS):
        here = copied & (pool.places == place)
        if here.any():
            index = int(here.nonzero()[0])
            twin = int(((pool.digests == pool.digests[index]) & (pool.places == last[index])).nonzero()[0])
            others = " or ".join(WORDS[other] for other in SETS[place + 1 :] if (last[here] == SETS.index(other)).any())
            example = f"such as {pool.name(index)} and {pool.name(twin)}"
            _refuse_most(
                pool, here, pool.places == place, f"{WORDS[name]} images", f"are also {others} images, {example}"
            )
            _LOGGER.warning(
                "%s left out for being copied among the %s images, %s",
                counted(int(here.sum()), f"{WORDS[name]} image"), others, example,
            )  # fmt: skip
    return copied


def _refuse_most(pool: Pool, chosen: Tensor, among: Tensor, what: str, problem: str) -> None:
    """Raises a ValueError if more than half of a class are ``chosen``: then it is no accident."""
    counts, totals = (
        torch.bincount(pool.labels[mask], minlength=len(pool.classes)).tolist() for mask in (chosen, among)
    )
    for name, count, total in zip(pool.classes, counts, totals, strict=True):
        if 2 * count > total:
            raise ValueError(
                f"{count} of the {total} {what} of class {name!r}, and {sum(counts)} of all {sum(totals)}, {problem}"
            )


def _check_trained_on(pool: Pool, sets: Tensor, known: Tensor, recorded: Recorded) -> None:
    """Deals with images in the folder of held-out or test images that the weights were trained on."""
    for place in (1, 2):
        leaked = (sets == place) & (known == 0)
        if leaked.any():
            what = f"{WORDS[SETS[place]]} images"
            example = f"such as {pool.name(leaked.nonzero()[0])}"
            problem = f"were training images of {recorded.origin}, {example}"
            _refuse_most(pool, leaked, pool.places == place, what, f"{problem}: start from other weights")
            _LOGGER.warning("%d of the %s %s: training images here as well", int(leaked.sum()), what, problem)


def _check_something_left(
    pool: Pool, result: Mapping[str, Tensor], shares: Mapping[str, object], recorded: Recorded
) -> None:
    for name in shares:
        counts = torch.bincount(pool.labels[result[name]], minlength=len(pool.classes)).tolist()
        if 0 in counts:
            own = pool.classes[counts.index(0)]
            total = int((pool.labels == counts.index(0)).sum())
            raise ValueError(
                f"no {WORDS[name]} image of class {own!r} can be split off: the other sets of {recorded.origin} had all {total}"
            )
    for name in SETS:
        if not len(result[name]):
            total = int((pool.places == SETS.index(name)).sum())
            raise ValueError(
                f"no {WORDS[name]} image is left: all {total} in that folder belong to the other sets of {recorded.origin}"
            )
