"""The recorded split of an earlier step, found again in the images that are there now."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from oneshot.data.pool import WORDS, Pool, counted
from oneshot.data.record import SETS, Recorded, SplitRecord

_LOGGER = logging.getLogger(__name__)


def follow(pool: Pool, recorded: Recorded, max_missing: int) -> tuple[Pool, dict[str, Tensor]]:
    """Finds the images of a recorded split, in its order and whatever their files are called.

    What has changed since is said in one line each: classes that have another name, images that are in another class, that are
    missing, and that are new.

    Returns:
        The pool with the recorded classes under their present names, and indices into it by set, ``"unused"`` among them.

    Raises:
        ValueError: classes were added or removed, more than ``max_missing`` images are missing, or there are new ones and
            ``recorded.new_images`` forbids that.
    """
    record = recorded.record
    pool = follow_classes(pool, recorded)
    contents, order = pool.digests.sort(stable=True)
    sets: dict[str, Tensor] = {}
    moved: list[tuple[int, int]] = []  # an image of the pool and the class that it had
    for name, digests in record.images.items():
        position = torch.searchsorted(contents, digests).clamp(max=len(contents) - 1)
        found = contents[position] == digests
        indices, labels = order[position[found]], record.labels[name][found]
        for slot in (pool.labels[indices] != labels).nonzero().flatten().tolist():
            copies = (pool.digests == pool.digests[indices[slot]]).nonzero().flatten()
            same = copies[pool.labels[copies] == labels[slot]]
            if len(same):
                indices[slot] = same[0]
            else:
                moved.append((int(indices[slot]), int(labels[slot])))
        sets[name] = indices
    if moved:
        index, label = moved[0]
        _LOGGER.warning(
            "%s in another class than in %s, such as %s, which was %s and counts as %s now",
            counted(len(moved)), recorded.origin, pool.name(index), pool.classes[label], pool.class_name(index),
        )  # fmt: skip
    _check_missing(pool, sets, recorded, max_missing)
    sets["train"] = torch.cat([sets["train"], _new_images(pool, recorded)])
    return pool, sets


def follow_classes(pool: Pool, recorded: Recorded) -> Pool:
    """Gives the classes of the pool their recorded numbers; one that holds the images of another name has been renamed.

    Raises:
        ValueError: there are other classes than those recorded.
    """
    record = recorded.record
    recorded_of, lie_in = _match_classes(pool, record)
    gone = [label for label in range(len(record.classes)) if label not in recorded_of.values()]
    added = [name for number, name in enumerate(pool.classes) if number not in recorded_of]
    if gone or added:
        told = [f"{record.classes[label]!r} is gone{_where(pool, lie_in[label])}" for label in gone[:3]]
        told += [f"{name!r} is new" for name in added[:3]]
        raise ValueError(
            f"the classes are not those of {recorded.origin}, {', '.join(record.classes[:20])}"
            f"{', ...' if len(record.classes) > 20 else ''}: {', '.join(told)}"
            f"{f', and {len(gone + added) - len(told)} more' if len(gone + added) > len(told) else ''}; "
            f"networks for other classes are trained with init=... new_classifier=true"
        )
    present = {label: number for number, label in recorded_of.items()}
    names = [pool.classes[present[label]] for label in range(len(record.classes))]
    renamed = [f"{old} to {new}" for old, new in zip(record.classes, names, strict=True) if old != new]
    if renamed:
        _LOGGER.warning("classes renamed since %s: %s", recorded.origin, ", ".join(renamed))
    if tuple(names) == pool.classes:
        return pool
    return pool.with_classes(names, [recorded_of[number] for number in range(len(pool.classes))])


def _match_classes(pool: Pool, record: SplitRecord) -> tuple[dict[int, int], Mapping[int, Counter[int]]]:
    """The recorded class of present ones, and in which present classes the images of each recorded class lie.

    A class is the recorded one most of whose images it holds, if most of what is known of it is of that one; else it is that
    of its name.
    """
    digests = torch.cat(list(record.images.values()))
    labels = torch.cat(list(record.labels.values()))
    contents, order = digests.sort(stable=True)
    position = torch.searchsorted(contents, pool.digests).clamp(max=len(contents) - 1)
    known = contents[position] == pool.digests
    pairs = torch.stack([pool.labels[known], labels[order[position[known]]]], dim=1)
    lie_in: dict[int, Counter[int]] = defaultdict(Counter)
    known_of: Counter[int] = Counter()
    for (number, label), count in zip(
        *(part.tolist() for part in pairs.unique(dim=0, return_counts=True)), strict=True
    ):
        lie_in[label][number] = count
        known_of[number] += count
    recorded_of = {}
    for label, numbers in lie_in.items():
        ((number, count),) = numbers.most_common(1)
        if 2 * count > max(numbers.total(), known_of[number]):
            recorded_of[number] = label
    by_name = {name: label for label, name in enumerate(record.classes)}
    for number, name in enumerate(pool.classes):
        if number not in recorded_of and by_name.get(name) not in (None, *recorded_of.values()):
            recorded_of[number] = by_name[name]
    return recorded_of, lie_in


def _where(pool: Pool, numbers: Counter[int]) -> str:
    return "".join(
        f" ({count} of its images are in {pool.classes[number]!r})" for number, count in numbers.most_common(1)
    )


def _check_missing(pool: Pool, sets: Mapping[str, Tensor], recorded: Recorded, max_missing: int) -> None:
    record = recorded.record
    missing = {name: len(record.images[name]) - len(sets[name]) for name in SETS}
    if any(missing.values()):
        total, had = sum(missing.values()), sum(len(record.images[name]) for name in SETS)
        parts = []
        for name in SETS:
            gone = ~torch.isin(record.images[name], pool.digests)
            counts = torch.bincount(record.labels[name][gone], minlength=len(pool.classes)).tolist()
            listed = [f"{count} {own}" for own, count in zip(pool.classes, counts, strict=True) if count]
            if listed:
                more = f" and {len(listed) - 5} classes more" if len(listed) > 5 else ""
                parts.append(f"{WORDS[name]}: {', '.join(listed[:5])}{more}")
        told = (
            f"{total} of the {had} images of {recorded.origin} are missing or have other content ({'; '.join(parts)})"
        )
        if total > max_missing or total == had:
            raise ValueError(
                f"{told}; at most {max_missing} may be (data.max_corrupt={max_missing}); data.root says where they are"
            )
        _LOGGER.warning("%s", told)
    for name in SETS:
        counts = torch.bincount(pool.labels[sets[name]], minlength=len(pool.classes)).tolist()
        before = torch.bincount(record.labels[name], minlength=len(pool.classes)).tolist()
        for own, count, had in zip(pool.classes, counts, before, strict=True):
            if had and not count:
                raise ValueError(
                    f"class {own!r} has none of the {had} {WORDS[name]} images left that {recorded.origin} had"
                )


def _new_images(pool: Pool, recorded: Recorded) -> Tensor:
    """The images to train on beside the recorded ones; others that are new are counted in one line."""
    new = ~torch.isin(pool.digests, torch.cat(list(recorded.record.images.values())))
    if not new.any():
        return torch.empty(0, dtype=torch.int64)
    count, example = int(new.sum()), pool.name(new.nonzero()[0])
    told = f"{counted(count)} new since {recorded.origin}, such as {example}"
    if recorded.new_images == "error":
        raise ValueError(f"{told}; new_images=ignore leaves them out, new_images=train trains on them")
    if recorded.new_images == "train":
        chosen = (new & (pool.places == 0)).nonzero().flatten()
        rest = f"; {count - len(chosen)} in held-out and test folders are left out" if len(chosen) < count else ""
        _LOGGER.warning("%s: %d are training images now%s", told, len(chosen), rest)
        return chosen
    _LOGGER.warning("%s: left out (new_images=train would train on them)", told)
    return torch.empty(0, dtype=torch.int64)
