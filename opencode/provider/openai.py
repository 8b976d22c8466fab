"""OpenAI's models, and any server that speaks its chat completions (Ollama, LM Studio, llama-server, vLLM)."""

import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from opencode.cancel import Cancel
from opencode.errors import ProviderError
from opencode.provider.failures import Source
from opencode.provider.http import build_client
from opencode.provider.openai_wire import OpenAIAnswer, request_body
from opencode.provider.port import Delta, ModelRequest
from opencode.provider.sdk_types import types_on_demand
from opencode.provider.streaming import stream_answer

if TYPE_CHECKING:
    import httpx2
    import openai

_BASE_URL = "https://api.openai.com/v1"
_MODELS = ["gpt-6.2-sol", "gpt-6.2-astra", "gpt-6.1-terra", "gpt-6-luna", "gpt-5.5", "gpt-5.4-mini"]
# OpenAI's own models refuse `max_tokens`, other servers often do not know `max_completion_tokens`.
_OPENAI_MODEL = re.compile(r"(gpt-(?!oss)|chatgpt-|o\d)")


class OpenAI:
    """The provider `openai`, or under another `name` a compatible server. The SDK is imported at the first call.

    `models` are the names that a local server listed; OpenAI itself needs none given.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        timeout_s: float,
        name: str = "openai",
        requires_key: bool | None = None,
        models: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self._api_key = api_key or None
        self._base_url = base_url or None
        self._timeout_s = timeout_s
        self._requires_key = base_url is None if requires_key is None else requires_key
        self._models = list(_MODELS if models is None else models)
        label = "OpenAI" if name == "openai" else name
        self._source = Source(label, "OPENAI_API_KEY", self._api_key, self._base_url)
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None

    def missing(self) -> str | None:
        if self._api_key or not self._requires_key:
            return None
        return "set OPENAI_API_KEY, or choose a model of another provider"

    def models(self) -> list[str]:
        return list(self._models)

    def warm(self) -> None:
        """Import the SDK and build its client, for which the first turn then need not wait."""
        # Asks the system what it is, by a process that it starts, and remembers that.
        self._sdk().platform_headers()

    def stream(self, request: ModelRequest, cancel: Cancel) -> Iterator[Delta]:
        cancel.check()
        if missing := self.missing():
            raise ProviderError(f"{self._source} is not configured: {missing}.", code="PROVIDER_NOT_CONFIGURED")
        client = self._sdk()
        import openai  # noqa: PLC0415 - `_sdk` has paid for it

        body = request_body(request, limit_field=self._limit_field(request.model))

        def send() -> "httpx2.Response":
            # `chat.completions.create` would check the whole conversation against its types, and import them first.
            stream = client.post(
                "/chat/completions",
                body={**body, "stream": True},
                cast_to=object,
                options={"security": {"bearer_auth": True}},
                stream=True,
                stream_cls=openai.Stream[object],
            )
            # Left open here: whoever reads the response closes it.
            return stream.response

        yield from stream_answer(send, OpenAIAnswer(self._source), cancel, source=self._source, sdk=openai)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _limit_field(self, model: str) -> str:
        own = self.name == "openai" and (self._base_url is None or _OPENAI_MODEL.match(model) is not None)
        return "max_completion_tokens" if own else "max_tokens"

    def _sdk(self) -> "openai.OpenAI":
        with self._lock:
            if self._client is None:
                with types_on_demand("openai.types"):
                    import openai  # noqa: PLC0415 - 0.1 s and 9 MB, paid by who uses it
                http_client = build_client(timeout_s=self._timeout_s)
                self._client = openai.OpenAI(
                    # Never None: the SDK would take the environment's key to whatever server this is.
                    api_key=self._api_key or "none",
                    base_url=self._base_url or _BASE_URL,
                    timeout=http_client.timeout,
                    # Our loop asks again, visibly and so that it can be aborted.
                    max_retries=0,
                    http_client=http_client,
                )
                if self.name != "openai":
                    self._client.organization = self._client.project = None
            return self._client
