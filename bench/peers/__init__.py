"""Servers that do what is measured of ours as others do it: events from memory, to whoever has an open stream.

Each answers `GET /health`, `GET /stream` (Server-Sent Events), and `POST /publish?count=&burst=&every_ms=`: so many
bursts of so many events. None stores anything.
"""

#: As long as a piece of text of ours is on the wire; ~ marks it.
DATA = '{"turn_id":"trn_01m8pxkr3amra3camppftwjqkh","content":"a few words ~"}'


def frame(number: int) -> bytes:
    return f"id: {number}\nevent: text\ndata: {DATA}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%X\r\n%b\r\n" % (len(data), data)
