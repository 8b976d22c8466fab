"""What an operator does with a whole database: look whether it is sound, and move it to another one."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from opencode.errors import StoreError
from opencode.storage.failures import translated
from opencode.storage.schema import metadata

#: Rows that are on their way at once.
_ROWS = 200
# A log has no gap: each row of it begins behind the one before.
_GAPS = sa.text(
    "SELECT session_id, first_seq FROM (SELECT session_id, first_seq, last_seq,"
    " COALESCE(LAG(last_seq) OVER (PARTITION BY session_id ORDER BY first_seq), 0) AS before FROM events) AS log"
    " WHERE first_seq <> before + 1 OR last_seq < first_seq ORDER BY session_id LIMIT 20"
)
_ENDLESS = sa.text(
    "SELECT id FROM turns WHERE state IN ('completed', 'aborted', 'failed') AND first_seq > 0 AND last_seq IS NULL"
    " LIMIT 20"
)
_HEADLESS = sa.text(
    "SELECT id FROM screens WHERE number > 0 AND NOT EXISTS"
    " (SELECT 1 FROM screen_events e WHERE e.screen_id = screens.id AND e.number = screens.number) LIMIT 20"
)


def sizes(engine: Engine) -> dict[str, int]:
    """How many rows each table has."""
    with engine.connect() as connection:
        return {table.name: _count(connection, table) for table in metadata.sorted_tables}


def _count(connection: Connection, table: sa.Table) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def faults(engine: Engine) -> list[str]:
    """What is wrong with what is stored, a line each; none where all is well."""
    found: list[str] = []
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            lines = [line for (line,) in connection.exec_driver_sql("PRAGMA integrity_check")]
            found += [f"the file is damaged: {line}" for line in lines if line != "ok"]
            found += [
                f"a row of {row[0]} belongs to no row of {row[2]}"
                for row in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(20)
            ]
        gaps, endless = connection.execute(_GAPS).all(), connection.execute(_ENDLESS).all()
        headless = connection.execute(_HEADLESS).all()
    found += [f"session {row.session_id}: its log has a gap before event {row.first_seq}" for row in gaps]
    found += [f"turn {row.id} has ended, and its log has no end" for row in endless]
    found += [f"screen {row.id}: its newest event is missing" for row in headless]
    return found


def copy(source: Engine, target: Engine) -> dict[str, int]:
    """Copy every row, in one transaction of the target, which must be empty: how many rows each table has now.

    Raises:
        StoreError: there is something in the target, or one of the two failed; nothing is copied then.
    """
    try:
        with source.connect() as reading, target.begin() as writing:
            for table in metadata.sorted_tables:
                # Secrets are made at the first start: those of the source are the ones that signed what is out there.
                if table.name != "secrets" and _count(writing, table):
                    raise StoreError(f"There are {table.name} in the target already; copy into an empty database.")
            writing.execute(metadata.tables["secrets"].delete())
            copied = {table.name: _copy_table(reading, writing, table) for table in metadata.sorted_tables}
            for table in metadata.sorted_tables:
                if _count(writing, table) != copied[table.name]:
                    raise StoreError(f"{table.name}: not all rows arrived; nothing is copied.")
            return copied
    except SQLAlchemyError as exc:
        raise translated(exc) from exc


def _copy_table(reading: Connection, writing: Connection, table: sa.Table) -> int:
    copied = 0
    rows = reading.execute(sa.select(table).execution_options(yield_per=_ROWS))
    for page in rows.mappings().partitions(_ROWS):
        writing.execute(table.insert(), [dict(row) for row in page])
        copied += len(page)
    return copied
