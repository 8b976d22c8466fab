"""Anthropic's models, through the Messages API."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from opencode.cancel import Cancel
from opencode.errors import ProviderError
from opencode.provider.anthropic_wire import AnthropicAnswer, request_body
from opencode.provider.failures import Source
from opencode.provider.http import build_client
from opencode.provider.port import Delta, ModelRequest
from opencode.provider.streaming import stream_answer

if TYPE_CHECKING:
    import anthropic
    import httpx2

_BASE_URL = "https://api.anthropic.com"
_MODELS = ["claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-2", "claude-mythos-5-2"]


class Anthropic:
    """The provider `anthropic`. The SDK is imported at the first call, or by `warm`."""

    def __init__(self, *, api_key: str | None, base_url: str | None, timeout_s: float, name: str = "anthropic") -> None:
        self.name = name
        self._api_key = api_key or None
        self._base_url = base_url or None
        self._timeout_s = timeout_s
        self._source = Source("Anthropic", "ANTHROPIC_API_KEY", self._api_key, self._base_url)
        self._lock = threading.Lock()
        self._client: anthropic.Anthropic | None = None

    def missing(self) -> str | None:
        # A base URL of one's own may be a gateway that holds the key, or a fake that needs none.
        if self._api_key or self._base_url:
            return None
        return "set ANTHROPIC_API_KEY, or choose a model of another provider"

    def models(self) -> list[str]:
        return list(_MODELS)

    def warm(self) -> None:
        """Import the SDK and build its client, a second that the first turn then need not wait."""
        self._sdk()

    def stream(self, request: ModelRequest, cancel: Cancel) -> Iterator[Delta]:
        cancel.check()
        if missing := self.missing():
            raise ProviderError(f"Anthropic is not configured: {missing}.", code="PROVIDER_NOT_CONFIGURED")
        import anthropic  # noqa: PLC0415 - 1.3 s and 61 MB, paid by who uses it

        client = self._sdk()
        body = request_body(request)

        def send() -> "httpx2.Response":
            manager = client.messages.with_streaming_response.create(**body, stream=True)
            # Left open here: whoever reads the response closes it.
            response: httpx2.Response = manager.__enter__().http_response
            return response

        yield from stream_answer(send, AnthropicAnswer(self._source), cancel, source=self._source, sdk=anthropic)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _sdk(self) -> "anthropic.Anthropic":
        import anthropic  # noqa: PLC0415 - as above

        with self._lock:
            if self._client is None:
                http_client = build_client(timeout_s=self._timeout_s)
                self._client = anthropic.Anthropic(
                    # Never None: the SDK would look for credentials by itself, in the environment and in files.
                    api_key=self._api_key or "none",
                    base_url=self._base_url or _BASE_URL,
                    timeout=http_client.timeout,
                    # Our loop asks again, visibly and so that it can be aborted.
                    max_retries=0,
                    http_client=http_client,
                    open_telemetry=False,
                )
            return self._client
