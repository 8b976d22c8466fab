"""The hottest statements of the program."""

import sqlalchemy as sa

# As text: building them anew costs more than the insert itself. The guard stands
# in the same statement, so that a writer that lost its turn or session inserts nothing, whenever it wakes up.
_SESSION = "SELECT 1 FROM sessions WHERE id = :session"
_TURN = "SELECT 1 FROM turns WHERE id = :turn AND attempt = :attempt AND state IN ('running', 'waiting')"
_INSERT = "INSERT INTO events (session_id, first_seq, last_seq, frames) SELECT :session, :first, :last, :frames"
INSERT_BY_SESSION = sa.text(f"{_INSERT} WHERE EXISTS ({_SESSION})")
INSERT_BY_TURN = sa.text(f"{_INSERT} WHERE EXISTS ({_TURN})")
SESSION_STANDS = sa.text(_SESSION)
TURN_STANDS = sa.text(_TURN)
FOLDED = sa.text("UPDATE sessions SET folded_seq = :last WHERE id = :session")
#: An event beside a turn, such as `session_updated`, is no reason to skip what the turn has not folded yet.
FOLDED_NEXT = sa.text("UPDATE sessions SET folded_seq = :last WHERE id = :session AND folded_seq = :first - 1")

#: Changes nothing, and yet must be written: a full disk or a read-only file shows itself.
TOUCH = sa.text("UPDATE alembic_version SET version_num = version_num")

STANDING = sa.text("SELECT id, attempt FROM turns WHERE state IN ('running', 'waiting')")
INSERT_ROW = sa.text(
    "INSERT INTO events (session_id, first_seq, last_seq, frames) VALUES (:session, :first, :last, :frames)"
)

#: The row that holds the first one wanted is found by the key, so that a long log is not read from its beginning.
READ = sa.text(
    "SELECT first_seq, last_seq, frames FROM events WHERE session_id = :session AND last_seq > :after AND first_seq >="
    " COALESCE((SELECT first_seq FROM events WHERE session_id = :session AND first_seq <= :after + 1"
    " ORDER BY first_seq DESC LIMIT 1), 0) ORDER BY first_seq LIMIT :rows"
)
