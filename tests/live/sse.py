"""A strict reader of our event streams."""

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    id: int | None
    name: str
    data: Any


class Parser:
    """Bytes in, events out. Anything that the API does not promise is an error."""

    def __init__(self):
        self.retries = []
        self.head_id = None
        self.beats = 0
        self._data = b""

    def feed(self, data):
        self._data += data
        *blocks, self._data = self._data.split(b"\n\n")
        return [event for event in map(self._block, blocks) if event is not None]

    def close(self):
        assert not self._data, f"the stream ended within an event: {self._data!r}"

    def _block(self, block):
        fields = {}
        for line in block.decode("utf-8").split("\n"):
            if line.startswith(":"):
                self.beats += 1
                continue
            name, colon, value = line.partition(": ")
            assert colon, f"not a field: {line!r}"
            assert name in {"id", "event", "data", "retry"}, line
            assert name not in fields, f"{name} twice: {block!r}"
            fields[name] = value
        if "retry" in fields:
            self.retries.append(int(fields["retry"]))
        number = fields.get("id")
        assert number is None or re.fullmatch(r"\d+", number), number
        if "data" not in fields:
            assert "event" not in fields
            if number is not None:
                self.head_id = int(number)
            return None
        return Event(None if number is None else int(number), fields["event"], json.loads(fields["data"]))
