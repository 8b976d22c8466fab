"""SQLite's driver itself, on a connection of SQLAlchemy's, with its pragmas."""

import sqlite3
from typing import Any

from sqlalchemy.engine import Engine


class Driver:
    """One connection of the engine's pool, taken at the first use and kept."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._taken: Any = None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._taken is None:
            self._taken = self._engine.raw_connection()
        connection: sqlite3.Connection = self._taken.driver_connection
        return connection

    def close(self) -> None:
        if self._taken is not None:
            self._taken.close()
