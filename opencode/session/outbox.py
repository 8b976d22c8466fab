"""Webhooks: stored together with the event that they tell of, and delivered by one thread until they arrive."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from opencode.changes import AskPermission, EndTurn, PutWebhooks
from opencode.errors import StoreError, WebhookFailed
from opencode.records import Webhook
from opencode.session.notable import Stored
from opencode.storage.port import Append, OutboxStore

log = logging.getLogger(__name__)

#: The first pause after a failure; doubled with each, up to the longest, with chance in it.
_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 6 * 3600.0
#: And of a receiver: what is new for it finds out sooner whether it is back.
_LONGEST_REST_S = 300.0
_ATTEMPTS = 16
_AGE_S = 3 * 24 * 3600.0
#: How long a stop waits for the thread.
_CLOSE_S = 5.0
#: Without a ring it looks this often, and after a failure of the store.
_LOOK_S = 60.0
_TOLD: dict[type, tuple[str, str]] = {EndTurn: ("turn_done", "done"), AskPermission: ("permission_request",) * 2}


def announcing(urls: tuple[str, ...]) -> Callable[[Append], None]:
    """A function that adds to an append the changes by which it is told to `urls`."""

    def announce(append: Append) -> None:
        kinds = [_TOLD[type(change)] for change in append.changes if type(change) in _TOLD]
        append.changes += tuple(PutWebhooks(append.session_id, urls, kind, event) for kind, event in kinds)

    return announce


class Post(Protocol):
    """Sends one webhook, once."""

    def __call__(self, webhook: Webhook) -> None:
        """Raises `WebhookFailed` where it did not arrive."""

    def cut(self) -> None:
        """End the one that is under way."""


class Outbox:
    """Delivers what is stored, at least once; what fails is tried again, later and later, and at last given up."""

    def __init__(
        self,
        store: OutboxStore,
        post: Post,
        *,
        pause_s: float = _PAUSE_S,
        attempts: int = _ATTEMPTS,
        age_s: float = _AGE_S,
    ) -> None:
        """`pause_s` is the first pause; `attempts` and `age_s` (seconds) bound how long one is tried."""
        self._store = store
        self._post = post
        self._pause_s = pause_s
        self._attempts = attempts
        self._age_s = age_s
        self._bell = threading.Event()
        self._closed = False
        self._left = False
        #: When a receiver that failed is asked again: what waits for it holds up nobody else.
        self._resting: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def ring(self, commit: Iterable[Stored]) -> None:
        """A watcher of the log: something new may be in the outbox."""
        if any(isinstance(change, PutWebhooks) for append in commit for change in append.changes):
            self._bell.set()

    def close(self) -> None:
        """Stop delivering; what is left goes on at the next start."""
        self._closed = True
        self._bell.set()
        self._post.cut()
        # A name that is being looked up cannot be cut off. What comes of it is left: the store is closed by then.
        self._thread.join(_CLOSE_S)
        self._left = self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed:
            self._bell.clear()
            try:
                wait_s = self._round()
            except StoreError as exc:
                log.warning("webhooks: %s", exc)
                wait_s = _LOOK_S
            except Exception:  # the thread must go on, whatever one of them met
                log.exception("webhooks: a round failed")
                wait_s = _LOOK_S
            if not self._closed:
                self._bell.wait(wait_s)

    def _round(self) -> float:
        """Deliver what is due; gives the seconds until something is again."""
        now = time.time()
        self._resting = {url: until for url, until in self._resting.items() if until > now}
        while not self._closed:
            webhook = self._store.next_webhook(resting=tuple(self._resting))
            if webhook is None or webhook.due_at > time.time():
                break
            self._deliver(webhook)
        moments = [*self._resting.values(), *([webhook.due_at] if webhook is not None else [])]
        return max(0.0, min(_LOOK_S, min(moments, default=_LOOK_S + now) - time.time()))

    def _deliver(self, webhook: Webhook) -> None:
        try:
            self._post(webhook)
        except WebhookFailed as failure:
            if not self._closed:  # then it was cut off: no fault of the receiver
                self._failed(webhook, failure)
            return
        if not self._left:
            self._store.remove_webhook(webhook.id)

    def _failed(self, webhook: Webhook, failure: WebhookFailed) -> None:
        now, attempts = time.time(), webhook.attempts + 1
        if failure.final or attempts >= self._attempts or now - webhook.created_at > self._age_s:
            log.error("webhook %s is given up after %d attempts: %s", webhook.id, attempts, failure)
            self._store.remove_webhook(webhook.id)
            return
        pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2 ** (attempts - 1)) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret
        log.warning("webhook %s, attempt %d: %s; again in %.1f s", webhook.id, attempts, failure, pause_s)
        self._store.postpone_webhook(webhook.id, now + pause_s)
        self._resting[webhook.url] = now + min(pause_s, _LONGEST_REST_S)
