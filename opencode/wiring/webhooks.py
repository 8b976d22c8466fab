"""Who posts webhooks."""

from opencode.session.log import EventLog
from opencode.session.outbox import Outbox, announcing
from opencode.settings import Settings
from opencode.storage.port import Store
from opencode.webhook.addresses import Allowed, target
from opencode.webhook.post import Poster
from opencode.webhook.signature import key_of


def find_poster(settings: Settings) -> Poster | None:
    """Posts webhooks, where there are any. Before the store is opened: it may refuse its settings."""
    if not settings.webhook_urls:
        return None
    allowed = Allowed.read(settings.webhook_allow)
    targets = {url: target(url, allowed) for url in settings.webhook_urls}
    return Poster(targets, allowed, key_of(settings.webhook_secret or ""))


def open_outbox(settings: Settings, poster: Poster | None, store: Store, event_log: EventLog) -> Outbox | None:
    if poster is None:
        return None
    outbox = Outbox(store, poster)
    event_log.announce = announcing(settings.webhook_urls)
    event_log.watchers.append(outbox.ring)
    return outbox
