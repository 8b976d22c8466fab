"""How tests ask a provider."""

import threading
import time
from contextlib import contextmanager

import pytest

from opencode.cancel import Cancel
from opencode.errors import ProviderError
from opencode.provider.port import ModelRequest, UserMessage

PROMPT = UserMessage("What is in this folder?")


def asked(*messages, model="test-model", system="You help.", tools=(), **more):
    return ModelRequest(model=model, system=system, messages=messages or (PROMPT,), tools=tools, **more)


def ask(provider, *messages, **more):
    return list(provider.stream(asked(*messages, **more), Cancel()))


def failure_of(provider, **more):
    with pytest.raises(ProviderError) as caught:
        ask(provider, **more)
    return caught.value


@contextmanager
def turned_once(ready, cancel):
    """Turn `cancel` in another thread as soon as `ready` is set; yields a list that gets the moment."""
    moment = []

    def turn():
        if ready.wait(10):
            moment.append(time.monotonic())
            cancel.cancel("aborted")

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield moment
    finally:
        ready.set()
        thread.join()
