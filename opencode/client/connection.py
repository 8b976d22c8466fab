"""One connection of a stream."""

import time
from collections import deque
from typing import TYPE_CHECKING

from opencode.client.errors import ProtocolError
from opencode.client.http import translated
from opencode.sse_reader import SseError, SseEvent, SseReader

if TYPE_CHECKING:
    import httpx2

#: A connection that lasted for this long has worked, even if it brought nothing but heartbeats.
_WORKED_S = 20.0


class Connection:
    """One response, read event by event."""

    def __init__(self, url: str, response: "httpx2.Response") -> None:
        self._url = url
        self._response = response
        self._chunks = response.iter_raw()
        self._opened_at = time.monotonic()
        self._ready: deque[SseEvent] = deque()
        self.reader = SseReader()

    @property
    def worked(self) -> bool:
        return time.monotonic() - self._opened_at > _WORKED_S

    def next(self) -> SseEvent | None:
        """The next event; None at the end of the body.

        Raises:
            Unreachable: the connection is lost.
            ProtocolError: it is no stream of events.
        """
        while not self._ready:
            with translated(self._url):
                chunk = next(self._chunks, None)
            if chunk is None:
                return None
            try:
                self._ready.extend(self.reader.feed(chunk))
            except SseError as exc:
                raise ProtocolError(f"{self._url} sends no events: {exc}") from exc
        return self._ready.popleft()

    def close(self) -> None:
        self._response.close()
