"""The network between a browser and its server, to be pulled out and put in again."""

import contextlib
import socket

from tests.client.peer import CuttingProxy
from tests.live.server import until


class Cable(CuttingProxy):
    """Passes everything on, until it is pulled."""

    def __init__(self, port):
        super().__init__(port, [])
        self.pulled = False

    def serve(self, connection):
        if not self.pulled:
            super().serve(connection)

    def pull(self):
        """Cut all connections, and refuse new ones."""
        self.pulled = True
        until(self._cut, 30, "all connections to be cut")

    def _cut(self):
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        return not self._open

    def plug_in(self):
        self.pulled = False
