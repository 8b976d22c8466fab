"""Local model servers: who answers on the usual ports of this machine, asked once and briefly."""

import contextlib
import http.client
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

KNOWN_PORTS: Mapping[str, int] = MappingProxyType({"ollama": 11434, "lmstudio": 1234, "llama-server": 8080})
_LABELS = {"ollama": "Ollama", "lmstudio": "LM Studio"}
_HOST = "127.0.0.1"
_MAX_BODY_BYTES = 1024 * 1024
# These answer no chat; the list does not say so, their names do.
_NO_CHAT = re.compile(r"embed|rerank|minilm|whisper|(^|[/_-])(bge|gte|e5)[_-]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that listed its models; `base_url` is what an OpenAI client takes."""

    name: str
    base_url: str
    models: tuple[str, ...]

    @property
    def label(self) -> str:
        return _LABELS.get(self.name, self.name)

    @property
    def address(self) -> str:
        return self.base_url.removeprefix("http://").removesuffix("/v1")


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    object: str
    data: list[_Model]


def find_local_servers(ports: Mapping[str, int] = KNOWN_PORTS, *, timeout_s: float = 0.2) -> list[LocalServer]:
    """Ask all ports of this machine at once for their models; returns after `timeout_s` at the latest.

    What is silent, answers anything but a list of models, or has no model to chat with, is left out without a word.
    """
    deadline = time.monotonic() + timeout_s
    found: dict[str, LocalServer] = {}

    def ask(name: str, port: int) -> None:
        # Whatever listens there owes us nothing: no answer of it may stop a start.
        with contextlib.suppress(Exception):
            models = _list_models(port, deadline)
            if models and time.monotonic() < deadline:
                found[name] = LocalServer(name, f"http://{_HOST}:{port}/v1", models)

    threads = [threading.Thread(target=ask, args=item, name="discovery", daemon=True) for item in ports.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answered = dict(found)
    return [answered[name] for name in ports if name in answered]


def _list_models(port: int, deadline: float) -> tuple[str, ...]:
    connection = http.client.HTTPConnection(_HOST, port, timeout=_left_s(deadline))
    with contextlib.closing(connection):
        connection.request("GET", "/v1/models", headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            return ()
        body = b""
        while chunk := response.read1(64 * 1024):
            body += chunk
            if len(body) > _MAX_BODY_BYTES or time.monotonic() > deadline:
                return ()
    listed = msgspec.json.decode(body, type=_ModelList)
    if listed.object != "list":
        return ()
    return tuple(model.id for model in listed.data if model.id and not _NO_CHAT.search(model.id))


def _left_s(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
