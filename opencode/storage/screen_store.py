"""The part of the store that keeps shared screens."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from sqlalchemy.engine import Connection

from opencode import records
from opencode.storage import port, rows, screens, selects
from opencode.storage.failures import patient
from opencode.storage.reading import Reader


class ScreenRows(Reader):
    """`port.ScreenStore`; whoever writes is said by the whole store."""

    _write: Callable[..., AbstractContextManager[Connection]]

    @patient
    def screen(self, owner: str, name: str) -> records.ScreenView | None:
        """See `port.ScreenStore.screen`."""
        with self._read(several=True) as connection:
            row = connection.execute(screens.FIND, {"of_owner": owner, "of_name": name}).first()
            if row is None:
                return None
            waiting = connection.execute(selects.WAITING, {"of": row.standing_id}) if row.standing_id else ()
            asked = tuple(rows.permission(one) for one in waiting)
            return records.ScreenView(screens.screen(row), screens.last_seq(row) if row.standing_id else 0, asked)

    @patient
    def screen_events(self, screen_id: str, after: int) -> list[records.ScreenEvent]:
        """See `port.ScreenStore.screen_events`."""
        with self._read() as connection:
            return screens.after(connection, screen_id, after)

    @patient
    def screen_ends(self, screen_ids: Collection[str]) -> dict[str, int]:
        """See `port.ScreenStore.screen_ends`."""
        with self._read() as connection:
            return {row.id: row.number for row in connection.execute(screens.ENDS, {"ids": list(screen_ids)})}

    @patient
    def change_screen(self, owner: str, name: str, change: port.ChangeScreen) -> records.ScreenChange:
        """See `port.ScreenStore.change_screen`."""
        with self._write(()) as connection:
            return screens.apply(connection, screens.hold(connection, owner, name), change)

    @patient
    def change_screens(self, owner: str, change: port.ChangeScreen) -> list[records.ScreenChange]:
        """See `port.ScreenStore.change_screens`."""
        with self._read() as connection:
            if not screens.count(connection, owner):
                return []  # as with most owners: nothing is to be written
        with self._write(()) as connection:
            return [screens.apply(connection, row, change) for row in screens.hold_all(connection, owner)]

    @patient
    def look_at_screen(self, screen_id: str, looker: str, until: float) -> bool:
        """See `port.ScreenStore.look_at_screen`."""
        with self._write(()) as connection:
            return screens.look(connection, screen_id, looker, until)

    @patient
    def leave_screen(self, screen_id: str, looker: str) -> None:
        """See `port.ScreenStore.leave_screen`."""
        with self._write(()) as connection:
            screens.leave(connection, screen_id, looker)
