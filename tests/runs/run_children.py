"""What child processes do to a run folder."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from oneshot.runs import Store, store, writing

NUM_NAMES = 60


@dataclass(frozen=True)
class Name:
    """A key that is its own text."""

    text: str

    def to_json(self) -> str:
        return self.text


class Row(NamedTuple):
    """A score."""

    accuracy: float
    loss: float
    num_images: int


def make_store(folder: Path, **identity: object) -> Store[Name, Row]:
    return Store(folder, identity or {"seed": 0}, Name, Row)


def names(number: int, start: int = 0) -> list[Name]:
    return [Name(f'{{"width": {index}}}') for index in range(start, number)]


def record(opened: Store[Name, Row], index: int) -> None:
    """The candidate of that number, and a latency."""
    (name,) = names(index + 1, index)
    opened.record("search", name, Row(index / 7, 1 / (index + 3), 64), 10 * index, index, None)
    opened.add_latency(name, "cpu", index / 3)


def hold(folder: str, ready: str) -> None:
    """Holds the folder until it is killed; ``ready`` appears once it does."""
    with writing(Path(folder)):
        Path(ready).touch()
        time.sleep(60)


def search(folder: str, number: int | None = None, delay: float = 0.0) -> None:
    """Scores all names, in an order of its own, and commits each of them; killed ``delay`` seconds after ``number`` of them."""
    store._COMMIT_SECONDS = 0.0
    opened, count = make_store(Path(folder)), 0
    with opened.exported():
        asked = names(NUM_NAMES)
        for start in range(0, NUM_NAMES, 10):
            for index in reversed(range(start, start + 10)):
                if asked[index] not in opened.scores:
                    record(opened, index)
                    count += 1
                    if count == number:
                        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            opened.arrange(asked[start : start + 10])


def grow(folder: str, connection: Connection) -> None:
    """Adds a candidate whenever it is told to."""
    opened = make_store(Path(folder))
    for index in range(5):
        record(opened, index)
        opened.commit()
        connection.send(index)
        connection.recv()
