"""OpenAI's chat completions on loopback, as their bytes look on the wire.

python -m tests.wire.openai_server --script file.json --port 0 --seconds 120
"""

import json
import re
import secrets
import time

from tests.wire.command import main
from tests.wire.wire import Wire, pieces, split, usage_of


class OpenAIWire(Wire):
    """`models` is what GET /v1/models lists."""

    def __init__(self, replies, *, models=("wire-model",), **options):
        super().__init__(replies, **options)
        self.models = models

    @property
    def base_url(self):
        return f"{self.address}/v1"

    def answer(self, connection, request):
        headers = {"x-request-id": f"req_{secrets.token_hex(16)}", "openai-version": "2020-10-01"}
        if (request.method, request.path) == ("GET", "/v1/models"):
            rows = [{"id": name, "object": "model", "created": 1686935002, "owned_by": "wire"} for name in self.models]
            connection.send_json(200, {"object": "list", "data": rows}, headers)
            return
        refusal = self._check(request)
        reply = None if refusal else self.next_reply(connection, request)
        if refusal is None and reply is None:
            refusal = {"status": 503, "type": "server_error", "message": "The script has no more replies"}
        if refusal is None and "refuse" in reply[0]:
            refusal = reply[0]["refuse"]
        if refusal:
            error = {"message": "Refused", "type": None, "param": None, "code": None}
            error |= {name: refusal[name] for name in error if name in refusal}
            body = refusal.get("body", {"error": error})
            connection.send_json(refusal["status"], body, headers | refusal.get("headers", {}))
            return
        connection.begin_stream(headers)
        with_usage = request.body.get("stream_options", {}).get("include_usage", False)
        _Answer(connection, request.body["model"], with_usage=with_usage).play(reply)

    def _check(self, request):
        """Refuse what the real one refuses."""
        if (request.method, request.path) != ("POST", "/v1/chat/completions"):
            message = f"Invalid URL ({request.method} {request.path})"
            return {"status": 404, "type": "invalid_request_error", "message": message}
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if not key or (self.api_key and key != self.api_key):
            message = f"Incorrect API key provided: {key}. You can find your API key at https://platform.openai.com."
            return {"status": 401, "type": "invalid_request_error", "code": "invalid_api_key", "message": message}
        problem = _problem(request.body)
        return problem and {"status": 400, "type": "invalid_request_error", "message": problem}


def _problem(body):
    if body is None:  # its sender was killed before it was whole
        return "We could not parse the JSON body of your request."
    if "max_tokens" in body and re.match(r"gpt-[56]|o\d", body["model"]):
        return "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    waiting = []
    for number, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return f"Invalid parameter: messages.[{number}] with role 'tool' must answer a preceding 'tool_calls'."
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return f"An assistant message with 'tool_calls' must be followed by tool messages: {waiting}"
        calls = message.get("tool_calls")
        if message["role"] == "assistant" and message.get("content") is None and not calls:
            return f"Invalid value for 'content': expected a string, got null. messages.[{number}]"
        waiting = [call["id"] for call in calls or ()]
    return None


class _Answer:
    def __init__(self, connection, model, *, with_usage):
        self.connection = connection
        self.with_usage = with_usage
        self.calls = 0
        self.stop = "stop"
        self.head = {
            "id": f"chatcmpl-{secrets.token_hex(14)}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_50cad350e4",
        }

    def send(self, data):
        self.connection.send(f"data: {json.dumps(data, ensure_ascii=False)}\n\n")

    def chunk(self, delta, finish_reason=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.with_usage else {}
        self.send({**self.head, "choices": [choice], **usage, "obfuscation": secrets.token_urlsafe(6)})

    def play(self, reply):
        self.chunk({"role": "assistant", "content": "", "refusal": None})
        for entry in reply:
            if "end" in entry:
                self.connection.end_stream()
                return
            if not self.connection.play_common(entry):
                self.entry(entry)
        self.chunk({}, self.stop)
        if self.with_usage:
            self.send({**self.head, "choices": [], "usage": _usage(usage_of(reply)), "obfuscation": "x"})
        self.connection.send("data: [DONE]\n\n")
        self.connection.end_stream()

    def entry(self, entry):
        match entry:
            case {"text": _}:
                for text, pause_s in pieces(entry):
                    self.chunk({"content": text})
                    self.connection.wait(seconds=pause_s)
            case {"reasoning": thought}:
                self.chunk({"reasoning_content": thought})
            case {"tool": name}:
                self.call(name, entry)
            case {"finish": reason}:
                self.stop = reason
            case {"fault": told}:
                error = {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
                self.send({"error": error | told})
                self.connection.end_stream()
                raise ConnectionError
            case {"usage": _}:
                pass
            case _:
                raise ValueError(f"unknown entry: {entry}")

    def call(self, name, entry):
        params = entry.get("params", {})
        text = params if isinstance(params, str) else json.dumps(params, ensure_ascii=False)
        call_id = entry.get("call_id") or f"call_{secrets.token_hex(12)}"
        first = {"index": self.calls, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        self.chunk({"tool_calls": [first]})
        for piece in split(text):
            self.chunk({"tool_calls": [{"index": self.calls, "function": {"arguments": piece}}]})
        self.calls += 1
        self.stop = "tool_calls"


def _usage(usage):
    return {
        "prompt_tokens": usage["input"],
        "completion_tokens": usage["output"],
        "total_tokens": usage["input"] + usage["output"],
        "prompt_tokens_details": {"cached_tokens": usage["cached"], "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


if __name__ == "__main__":
    main(OpenAIWire)
