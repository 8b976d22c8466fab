"""TLS in front of a database whose build has none: what a test's client says through it arrives there in plain."""

import asyncio
import contextlib
import struct
import threading

#: PostgreSQL's protocol, "SSL Session Encryption": a client asks by a message of this length and code, before all else.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class TlsRelay:
    """Listens at `port` with the certificate of `context`. `handshakes` counts clients that trusted it."""

    def __init__(self, target_port, context, *, postgresql=False):
        self.handshakes = 0
        self._target_port = target_port
        self.context = context
        self._postgresql = postgresql
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(ready)))
        self._thread.start()
        assert ready.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self, ready):
        server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        clients = asyncio.all_tasks() - {asyncio.current_task()}
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _on_client(self, reader, writer):
        target = None
        try:
            if self._postgresql:
                assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST, "a client that asks for no TLS"
                writer.write(b"S")
            await writer.start_tls(self.context)
            self.handshakes += 1
            there, target = await asyncio.open_connection("127.0.0.1", self._target_port)
            both = [asyncio.ensure_future(self._pass(*way)) for way in ((reader, target), (there, writer))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in both:
                    way.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, EOFError, asyncio.CancelledError):  # it did not trust us, or left; or we stop
            pass
        finally:
            for side in filter(None, (writer, target)):
                side.transport.abort()
                with contextlib.suppress(OSError):
                    await side.wait_closed()

    @staticmethod
    async def _pass(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
