"""The SQLite file of a search: every score, cost and latency, written while it goes on and read when it is continued."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import sqlite3
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from oneshot import processes
from oneshot.runs.files import write_json, write_text
from oneshot.runs.identity import differences, require_same
from oneshot.runs.lock import locked

NAME = "run.sqlite"
_VERSION = 1
_COMMIT_SECONDS = 1.0  # a commit waits for the disk, about as long as scoring a small network takes
_BUSY_SECONDS = 60.0  # that a commit waits for someone who is reading
_COMPARED_WITH = frozenset({"reference", "original"})  # sources of candidates among which nothing is chosen
_SCHEMA = f"""
BEGIN;
CREATE TABLE identity (part TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE scores (
    arch TEXT NOT NULL, num_images INTEGER NOT NULL, accuracy REAL, loss REAL, PRIMARY KEY (arch, num_images)
);
CREATE TABLE chosen (
    arch TEXT PRIMARY KEY, place INTEGER, source TEXT NOT NULL, num_images INTEGER NOT NULL, macs INTEGER NOT NULL,
    params INTEGER NOT NULL, latency_ms REAL
);
CREATE TABLE latencies (
    arch TEXT NOT NULL, conditions TEXT NOT NULL, latency_ms REAL NOT NULL, PRIMARY KEY (arch, conditions)
);
CREATE VIEW candidates AS
    SELECT row_number() OVER (ORDER BY place IS NULL, place, chosen.rowid) - 1 AS "index", source, accuracy, loss,
        num_images, macs, params, latency_ms, arch
    FROM chosen JOIN scores USING (arch, num_images) ORDER BY "index";
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_VALUES = """
CREATE TABLE IF NOT EXISTS witness_values (arch TEXT NOT NULL, name TEXT NOT NULL, value REAL, PRIMARY KEY (arch, name))
"""


class Key(Hashable, Protocol):
    """What is scored, such as an architecture."""

    def to_json(self) -> str:
        """The text that stands for it in the file."""


class Scored(Protocol):
    """A score, with the number of images on which it was found."""

    @property
    def accuracy(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def num_images(self) -> int: ...


K = TypeVar("K", bound=Key)
S = TypeVar("S", bound=Scored)


class Store(Generic[K, S]):
    """The scores of one search in ``folder/run.sqlite``, and the lock of its folder: both are open until ``close``, or to the end
    of a ``with``.

    What is added is in the file within a second, and at once when ``exported`` ends; a process that is killed loses no more, and
    the file is whole (a rollback journal, which unlike a write-ahead log also works on the network file systems of clusters).
    Others may read it meanwhile: the view ``candidates`` has the columns of ``candidates.csv``. Of several processes of a run the
    first writes; each of the others works on a copy in memory.

    Args:
        identity: plain values on which every score depends.
        free: those of them that may change if no other does.
        decode: makes a key from its text.
        make_score: makes a score from accuracy, loss and number of images.

    Attributes:
        scores: of all candidates, in the order in which they were asked for.

    Raises:
        FolderInUseError: another process writes to the folder.
        ValueError: the folder holds another search, or one that cannot be continued.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        decode: Callable[[str], K],
        make_score: Callable[[float, float, int], S],
        free: Collection[str] = (),
    ) -> None:
        self.folder, self.path = folder, folder / NAME
        self.scores: dict[K, S] = {}
        self._sources: dict[K, str] = {}
        self._known: dict[tuple[K, int], S] = {}
        self._latencies: dict[tuple[K, str], float] = {}
        self._values: dict[tuple[K, str], float] = {}
        self._asked: dict[K, None] = {}
        self._pending: list[tuple[str, tuple[object, ...]]] = []
        self._committed = -math.inf
        with contextlib.ExitStack() as opened:
            opened.enter_context(locked(folder))
            with self._named():
                self._connection = self._connect(opened)
            self.claim("search", identity, "holds another search", free)
            with self._named():
                self._load(decode, make_score)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes what was added, closes the file and frees the folder; what is closed already stays so.

        Raises:
            OSError: it cannot be written; the folder is free nevertheless.
        """
        with self._opened:
            if self._pending:
                self.commit()

    def claim(self, part: str, identity: Mapping[str, Any], held: str, free: Collection[str] = ()) -> None:
        """Remembers what ``part`` of the folder depends on, but for what is ``free`` to change if nothing else does.

        Raises:
            ValueError: it was something else; ``held`` says so in words.
        """
        with self._named():
            found = self._connection.execute("SELECT content FROM identity WHERE part = ?", (part,)).fetchone()
        text = json.dumps(identity)
        if found is not None:
            before, now = self._identity(found[0]), json.loads(text)
            if differences(before, now, free):
                require_same(self.folder, held, before, now)
            return
        self._pending.append(("INSERT INTO identity VALUES (?, ?)", (part, text)))
        self.commit()

    def _identity(self, text: object) -> dict[str, Any]:
        try:
            identity = json.loads(str(text))
        except (ValueError, RecursionError):
            identity = None
        if not isinstance(identity, dict):
            raise ValueError(f"{self.path} is damaged: it does not say what it is the record of; use another folder")
        return identity

    # Scores ----------------------------------------------------------------------------------------------------------

    def get(self, key: K, num_images: int) -> S | None:
        """The score of ``key`` on the first ``num_images``, if that is known."""
        return self._known.get((key, num_images))

    def add(self, key: K, score: S) -> None:
        """Remembers a score on the first ``score.num_images``."""
        self._known[key, score.num_images] = score
        values = (key.to_json(), int(score.num_images), float(score.accuracy), float(score.loss))
        self._write("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", *values)

    def record(self, source: str, key: K, score: S, macs: int, params: int, latency_ms: float | None = None) -> None:
        """Makes a candidate of ``key``, found by ``source``."""
        self.scores[key] = score
        self._sources[key] = source
        self.add(key, score)
        values = (key.to_json(), source, int(score.num_images), int(macs), int(params), latency_ms)
        self._write("INSERT OR REPLACE INTO chosen VALUES (?, NULL, ?, ?, ?, ?, ?)", *values)

    @property
    def searched(self) -> list[K]:
        """The candidates that this search or an earlier one in the folder looked at to find the best; not what it only compares
        with.
        """
        return [key for key in self.scores if self._sources[key] not in _COMPARED_WITH]

    def arrange(self, keys: Sequence[K]) -> None:
        """Puts the candidates into the order in which they were asked for, ``keys`` being the last ones: scored together, they
        come in another order, and in yet another one after a stop.
        """
        self._asked.update(dict.fromkeys(keys))
        rest = [key for key in self.scores if key not in self._asked]
        order = [*(key for key in self._asked if key in self.scores), *rest]
        if order != list(self.scores):
            self.scores = {key: self.scores[key] for key in order}

    # Latencies -------------------------------------------------------------------------------------------------------

    def latency(self, key: K, conditions: str) -> float | None:
        """Milliseconds measured under ``conditions``, if any."""
        return self._latencies.get((key, conditions))

    def add_latency(self, key: K, conditions: str, latency_ms: float) -> None:
        """Remembers a measured latency."""
        self._latencies[key, conditions] = latency_ms
        self._write("INSERT OR REPLACE INTO latencies VALUES (?, ?, ?)", key.to_json(), conditions, float(latency_ms))

    # Other values ----------------------------------------------------------------------------------------------------

    def value(self, key: K, name: str) -> float | None:
        """What is known of ``key`` under ``name``, beside its score, if anything is."""
        return self._values.get((key, name))

    def add_value(self, key: K, name: str, value: float) -> None:
        """Remembers a value."""
        self._values[key, name] = value
        self._write("INSERT OR REPLACE INTO witness_values VALUES (?, ?, ?)", key.to_json(), name, float(value))

    # The files -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def exported(self) -> Iterator[None]:
        """However its body ends, all that was added is in the file then, and in ``candidates.csv`` and ``search.json``."""
        try:
            yield
        finally:
            places = ((place, key.to_json()) for place, key in enumerate(self.scores))
            self._pending += [("UPDATE chosen SET place = ? WHERE arch = ?", values) for values in places]
            self.commit()
            self._export()

    def commit(self) -> None:
        """Writes what was added so far to the file.

        Raises:
            OSError: it cannot be written.
        """
        with self._named(), self._connection:
            for statement, values in self._pending:
                self._connection.execute(statement, values)
        self._pending.clear()
        self._committed = time.monotonic()

    def _write(self, statement: str, *values: object) -> None:
        self._pending.append((statement, values))
        if time.monotonic() - self._committed >= _COMMIT_SECONDS:
            self.commit()

    def _export(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        with self._named():
            others: dict[str, dict[str, float]] = {}
            for text_of_key, name, value in self._connection.execute("SELECT * FROM witness_values ORDER BY rowid"):
                others.setdefault(name, {})[text_of_key] = _number(value)
            rows = self._connection.execute("SELECT * FROM candidates")
            names = [column[0] for column in rows.description]
            for name in names:
                others.pop(name, None)  # as a score "macs" and "params" are what the costs are
            writer.writerow([*names, *others])
            for index, source, accuracy, loss, *rest in rows:
                more = (known.get(rest[-1], "") for known in others.values())
                writer.writerow((index, source, _number(accuracy), _number(loss), *rest, *more))
            (identity,) = self._connection.execute("SELECT content FROM identity WHERE part = 'search'").fetchone()
        write_text(self.folder / "candidates.csv", text.getvalue())
        write_json(self.folder / "search.json", json.loads(identity))

    def _connect(self, opened: contextlib.ExitStack) -> sqlite3.Connection:
        """The file, made if missing; in other processes than the first its content, in memory."""
        if not processes.is_first():
            processes.wait()  # until the first has made it
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
        opened.callback(connection.close)
        if processes.is_first():
            self._prepare(connection)
            processes.wait()
        else:
            file, connection = connection, sqlite3.connect(":memory:", check_same_thread=False)
            opened.callback(connection.close)
            file.backup(connection)
        processes.wait()  # until all have what it holds now
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            connection.execute(_VALUES)
            return
        old = [name for name in ("candidates.csv", "search.json") if (self.folder / name).exists()]
        if version or old:
            held = f"{NAME} of version {version}" if version else f"{old[0]} without {NAME}"
            raise ValueError(
                f"{self.folder} holds {held}: a search by another version of this package, which this one cannot continue; "
                "use another folder"
            )
        connection.executescript(_SCHEMA)
        connection.execute(_VALUES)

    def _load(self, decode: Callable[[str], K], make_score: Callable[[float, float, int], S]) -> None:
        keys: dict[str, K] = {}

        def key_of(text: str) -> K:
            if text not in keys:
                try:
                    keys[text] = decode(text)
                except (ValueError, TypeError, RecursionError) as error:
                    raise ValueError(f"{self.path}: {str(error)[:300]}") from None
            return keys[text]

        for text, number, accuracy, loss in self._connection.execute("SELECT * FROM scores"):
            self._known[key_of(text), number] = make_score(_number(accuracy), _number(loss), number)
        for text, number, source in self._connection.execute("SELECT arch, num_images, source FROM candidates"):
            self.scores[key_of(text)] = self._known[key_of(text), number]
            self._sources[key_of(text)] = str(source)
        for text, conditions, latency in self._connection.execute("SELECT * FROM latencies"):
            self._latencies[key_of(text), conditions] = latency
        for text, name, value in self._connection.execute("SELECT * FROM witness_values"):
            self._values[key_of(text), name] = _number(value)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of SQLite as those of any other file."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise OSError(f"{self.path} is closed: {error}") from error
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be read or written: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is damaged or no search of this package: {error}") from error


def _number(value: float | None) -> float:
    """SQLite keeps a NaN as NULL."""
    return math.nan if value is None else value
