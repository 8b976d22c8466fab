"""The database as a whole, for `opencode db`."""

from opencode.errors import StoreError
from opencode.settings import Settings
from opencode.storage import upkeep
from opencode.storage.schema import HEAD
from opencode.storage.sql import open_store


def upgrade(settings: Settings) -> str:
    """Bring the schema up to date; which one it is."""
    open_store(settings.database_url, settings.data_dir, durability=settings.durability).close()
    return HEAD


def check(settings: Settings) -> tuple[dict[str, int], list[str]]:
    """How many rows there are by table, and what is wrong with them."""
    store = open_store(settings.database_url, settings.data_dir, durability=settings.durability)
    try:
        return upkeep.sizes(store.engine), upkeep.faults(store.engine)
    finally:
        store.close()


def copy(settings: Settings, source_url: str | None) -> dict[str, int]:
    """Copy the store at `source_url` (default: the embedded one) to the one that the settings name; rows by table.

    Raises:
        StoreError: a server still has the source, the target is not empty, or one of them fails.
    """
    if source_url is None and not (settings.data_dir / "store.sqlite3").exists():
        raise StoreError(
            f"There is no store in {settings.data_dir}. Say where it is: --from sqlite:////path/store.sqlite3"
        )
    source = open_store(source_url, settings.data_dir)
    try:
        target = open_store(settings.database_url, settings.data_dir)
        try:
            return upkeep.copy(source.engine, target.engine)
        finally:
            target.close()
    finally:
        source.close()
