"""Pieces of text that are stored, and not in `events` yet.

`events` is found by session, so that a commit of pieces of a hundred turns changes a hundred pages of its index. They
are written to `pieces` first, one behind the other, where they share a page; and go to `events` together, as one row,
when there are many, or when something else is stored of their session. Which they are is known in memory; after a crash
they are found in the table (`recover`). What has gone to `events` is left in `pieces` until all that is older has too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from opencode.storage import selects, statements
from opencode.storage.schema import pieces

#: Of one session's, how many rows or bytes are many.
_ROWS, _BYTES = 64, 32 * 1024
#: Sessions that are settled in one commit because they have many: few, as turns that began together are not to stop all
#: others, and a share of the commit's own rows, so that there are never more and more of them.
_AT_ONCE, _SHARE = 4, 16
#: Rows of `pieces` that the oldest of them may keep there, and how many that are done with are deleted together.
_SPAN, _PRUNED = 8_192, 512


class Run:
    """One session's pieces, consecutive."""

    __slots__ = ("first_id", "first_seq", "frames", "last_seq", "size")

    def __init__(self, first_id: int, first_seq: int) -> None:
        self.first_id = first_id
        self.first_seq = first_seq
        self.last_seq = first_seq - 1
        self.frames: list[bytes] = []
        self.size = 0


class Unsettled:
    """What is in `pieces` alone. Changed by the writer alone, and only when its transaction has succeeded."""

    def __init__(self) -> None:
        #: By session; whose first piece is oldest comes first.
        self._runs: dict[str, Run] = {}
        self._many: dict[str, None] = {}
        self.next_id = 1
        self._pruned = 1

    def last_seq(self, session_id: str) -> int:
        """The number of the session's last piece, 0 where it has none."""
        run = self._runs.get(session_id)
        return 0 if run is None else run.last_seq

    def read(self, session_id: str) -> tuple[int, bytes]:
        """The number of the session's first piece, and all of them. May be called from any thread."""
        run = self._runs.get(session_id)
        return (0, b"") if run is None else (run.first_seq, b"".join(list(run.frames)))

    def add(self, row: tuple[int, str, int, int, bytes]) -> None:
        """A row of `pieces`."""
        row_id, session_id, first_seq, last_seq, frames = row
        run = self._runs.get(session_id)
        if run is None:
            run = self._runs[session_id] = Run(row_id, first_seq)
        run.frames.append(frames)
        run.last_seq = last_seq
        run.size += len(frames)
        if len(run.frames) >= _ROWS or run.size >= _BYTES:
            self._many[session_id] = None

    def stored(self, rows: Sequence[tuple[int, str, int, int, bytes]]) -> None:
        """These rows of `pieces` stand."""
        for row in rows:
            self.add(row)
        self.next_id = rows[-1][0] + 1

    def due(self, rows: int) -> list[str]:
        """Sessions to settle with so many new rows, a few at a time."""
        found = list(islice(self._many, max(_AT_ONCE, rows // _SHARE)))
        oldest = next(iter(self._runs.items()), None)
        if oldest is not None and self.next_id - oldest[1].first_id > _SPAN and oldest[0] not in found:
            found.append(oldest[0])
        return found

    def rows(self, session_ids: Iterable[str]) -> list[tuple[str, int, int, bytes]]:
        """What becomes of them in `events`."""
        found = [(session_id, self._runs[session_id]) for session_id in session_ids if session_id in self._runs]
        return [(session_id, run.first_seq, run.last_seq, b"".join(run.frames)) for session_id, run in found]

    def drop(self, session_ids: Iterable[str]) -> None:
        """They are in `events` now, or deleted."""
        for session_id in session_ids:
            self._runs.pop(session_id, None)
            self._many.pop(session_id, None)

    def done_below(self) -> int | None:
        """Rows of `pieces` with smaller ids are done with; None where it is not worth a deletion."""
        oldest = next(iter(self._runs.values()), None)
        below = self.next_id if oldest is None else oldest.first_id
        return below if below - self._pruned >= _PRUNED else None

    def pruned(self, below: int) -> None:
        self._pruned = below

    def sessions(self) -> list[str]:
        return list(self._runs)


def settle(connection: Connection, rows: Iterable[tuple[str, int, int, bytes]]) -> None:
    """Put them into `events`, in a transaction of SQLAlchemy's; not those of a session that is gone."""
    for session_id, first_seq, last_seq, frames in rows:
        row = {"session": session_id, "first": first_seq, "last": last_seq, "frames": frames}
        connection.execute(statements.INSERT_BY_SESSION, row)


def recover(engine: Engine) -> None:
    """Settle what an earlier process left in `pieces`."""
    with engine.connect() as connection:
        if connection.execute(sa.select(pieces.c.id).limit(1)).first() is None:
            return
    with engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        ends: Counter[str] = Counter()
        left = Unsettled()
        for row in connection.execute(sa.select(pieces).order_by(pieces.c.id)):
            if row.session_id not in ends:
                ends[row.session_id] = connection.execute(selects.LAST_SEQ, {"of": row.session_id}).scalar() or 0
            if row.last_seq > ends[row.session_id]:
                left.add((row.id, row.session_id, row.first_seq, row.last_seq, row.frames))
        settle(connection, left.rows(left.sessions()))
        connection.execute(pieces.delete())
