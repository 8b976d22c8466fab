"""What is being worked on: the ids that go into log lines, and spans of OpenTelemetry where it is set up.

Off unless the extra `otel` is installed and the standard OTEL_* variables name an exporter, or the program around has
set a tracer provider. What sessions say is in no span.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

log = logging.getLogger(__name__)

_IDS: ContextVar[Mapping[str, str]] = ContextVar("opencode_ids", default={})  # noqa: B039 - never changed, only replaced
_ENDPOINTS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = ("otlp", "console", "none")


class _Tracing:
    """The tracer in use; None while there is none."""

    tracer: Any = None


def ids() -> Mapping[str, str]:
    """The ids of what this thread, or greenlet, works on, such as `session_id` and `turn_id`."""
    return _IDS.get()


@contextmanager
def work(**own: str) -> Iterator[None]:
    """Work on something: its ids are in each log line meanwhile."""
    token = _IDS.set({**_IDS.get(), **own})
    try:
        yield
    finally:
        _IDS.reset(token)


def set_up(environ: Mapping[str, str]) -> None:
    """Trace from now on, where the environment or the program around asks for it. Does nothing the second time."""
    if _Tracing.tracer is not None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    provider = _of_the_program() or _of_the_environment(environ)
    if provider is not None:
        _Tracing.tracer = provider.get_tracer("opencode")


@contextmanager
def traced_by(provider: Any) -> Iterator[None]:
    """Use this tracer provider meanwhile, and the one before it afterwards."""
    before, _Tracing.tracer = _Tracing.tracer, provider.get_tracer("opencode")
    try:
        yield
    finally:
        _Tracing.tracer = before


def _of_the_program() -> Any:
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra

    provider = trace.get_tracer_provider()
    return provider if isinstance(provider, TracerProvider) else None


def _of_the_environment(environ: Mapping[str, str]) -> Any:
    name = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "none" or not any(environ.get(own) for own in _ENDPOINTS):
        return None
    if name not in _EXPORTERS:
        log.warning("OTEL_TRACES_EXPORTER must be one of %s here, not %r: no traces", ", ".join(_EXPORTERS), name)
        return None
    try:
        return _exporting(name)
    except ImportError:
        log.warning("OTEL_* variables are set, but OpenTelemetry is not installed: pip install 'opencode-server[otel]'")
        return None


def _exporting(name: str) -> Any:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415 - an extra

    provider = TracerProvider()
    if name == "console":
        provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Span:
    """A span that may be none. It ends once; `failed` says by what error, never what it said."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def note(self, attributes: Mapping[str, Any]) -> None:
        if self._span is not None:
            self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def end(self, *, failed: str | None = None) -> None:
        span, self._span = self._span, None
        if span is not None:
            if failed is not None:
                from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

                span.set_attribute("error.type", failed)
                span.set_status(Status(StatusCode.ERROR))
            span.end()


def is_on() -> bool:
    """Whether spans go anywhere: what is only said in them need not be put together otherwise."""
    return _Tracing.tracer is not None


def begin(name: str, attributes: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Span:
    """Begin a span, within the current one; with `headers`, within that of the caller (`traceparent`)."""
    if _Tracing.tracer is None:
        return Span(None)
    context = None
    if headers is not None:
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - an extra
            TraceContextTextMapPropagator,
        )

        context = TraceContextTextMapPropagator().extract({own.lower(): value for own, value in headers.items()})
    return Span(_Tracing.tracer.start_span(name, context=context, attributes=dict(attributes)))


@contextmanager
def within(span: Span) -> Iterator[None]:
    """Spans that begin meanwhile, in this thread, are parts of `span`."""
    inner = span._span  # noqa: SLF001 - of this module
    if inner is None:
        yield
        return
    from opentelemetry import trace  # noqa: PLC0415 - an extra

    with trace.use_span(inner, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        yield


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Span]:
    """A span around a block; an exception that leaves it is its error."""
    own = begin(name, attributes)
    try:
        with within(own):
            yield own
    except BaseException as exc:
        own.end(failed=type(exc).__name__)
        raise
    own.end()


def carried(function: Callable[..., None]) -> Callable[..., None]:
    """The function, for another thread: what it does is part of what this one does now."""
    if _Tracing.tracer is None:
        return function
    from opentelemetry import trace  # noqa: PLC0415 - an extra

    current = Span(trace.get_current_span())

    def carrying(*args: Any) -> None:
        with within(current):
            function(*args)

    return carrying
