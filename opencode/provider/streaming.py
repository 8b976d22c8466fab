"""How the adapters of HTTP providers turn one request into deltas: send, read events, decode, translate failures."""

from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from opencode.cancel import Cancel
from opencode.errors import OpenCodeError
from opencode.provider import failures
from opencode.provider.failures import Source
from opencode.provider.http import read_bytes
from opencode.provider.port import Delta
from opencode.sse_reader import SseEvent, read_events

if TYPE_CHECKING:
    import httpx2


class Answer(Protocol):
    """Decodes one answer, event by event."""

    finished: bool
    """The provider has said that nothing follows."""

    def read(self, event: SseEvent) -> Iterable[Delta]:
        """Give what the event completes. Raises `ProviderError`, or msgspec's for what cannot be decoded."""

    def end(self) -> Iterable[Delta]:
        """Give what is left, `Finish` last; raises `ProviderError` where the model had not finished."""


def stream_answer(
    send: Callable[[], "httpx2.Response"], answer: Answer, cancel: Cancel, *, source: Source, sdk: ModuleType
) -> Iterator[Delta]:
    """Keep the promises of `Provider.stream` around one HTTP request."""
    try:
        for event in read_events(read_bytes(send, cancel)):
            yield from answer.read(event)
            if answer.finished:
                break
        yield from answer.end()
    except OpenCodeError:
        raise
    except Exception as exc:
        failure = failures.from_exception(source, sdk, exc)
        if failure is None:
            raise
        # The SDK's exception may quote headers and keys; all that may be shown is in ours.
        raise failure from None
