"""Model providers on loopback that answer by what they are asked: many conversations share one without disturbing it."""

import itertools
import threading

from tests.wire.anthropic_server import AnthropicWire
from tests.wire.openai_server import OpenAIWire

_numbers = itertools.count(1)


def first_prompt(body):
    """What the conversation began with."""
    content = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


class _ByPrompt:
    """`script(replies)` gives the prompt that plays them, one reply for each request of that conversation."""

    def __init__(self, **options):
        super().__init__([], **options)
        self._scripts = {}
        self._lock = threading.Lock()

    def script(self, replies, *, loop=False, prompt=None):
        prompt = prompt or f"scenario {next(_numbers)}"
        self._scripts[prompt] = (replies, loop, itertools.count())
        return prompt

    def asked(self, prompt):
        """The bodies that came for the conversation."""
        return [request.body for request in self.requests if request.body and first_prompt(request.body) == prompt]

    def _choose(self, request):
        with self._lock:
            replies, loop, counter = self._scripts[first_prompt(request.body)]
            number = next(counter)
        if loop:
            return replies[number % len(replies)]
        return replies[number] if number < len(replies) else None


class AnthropicByPrompt(_ByPrompt, AnthropicWire):
    pass


class OpenAIByPrompt(_ByPrompt, OpenAIWire):
    pass
