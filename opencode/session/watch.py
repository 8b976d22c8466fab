"""Those who watch turns at work, such as metrics; they are told, and decide nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from blinker import Signal

from opencode.cancel import Cancel
from opencode.errors import ProviderError
from opencode.provider.port import Delta, ModelRequest, Provider


@dataclass(frozen=True, slots=True)
class Watch:
    """Signals; receivers are quick and must not raise."""

    #: Sent when this process begins to work on a turn, and when it no longer does.
    turn_began: Signal = field(default_factory=Signal)
    turn_left: Signal = field(default_factory=Signal)
    #: Sent with `provider` and `code` for each failed call, also where it is asked anew.
    provider_failed: Signal = field(default_factory=Signal)


@dataclass(slots=True)
class WatchedProvider:
    """A provider whose failures are told."""

    name: str
    provider: Provider
    watch: Watch

    def missing(self) -> str | None:
        return self.provider.missing()

    def models(self) -> list[str]:
        return self.provider.models()

    def stream(self, request: ModelRequest, cancel: Cancel) -> Iterator[Delta]:
        try:
            yield from self.provider.stream(request, cancel)
        except ProviderError as failure:
            self.watch.provider_failed.send(self, provider=self.name, code=failure.code)
            raise

    def close(self) -> None:
        self.provider.close()
