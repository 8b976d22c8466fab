"""Anthropic's Messages API on loopback, as its bytes look on the wire.

python -m tests.wire.anthropic_server --script file.json --port 0 --seconds 120
"""

import json
import secrets

from tests.wire.command import main
from tests.wire.wire import Wire, pieces, split, usage_of

STOP = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


class AnthropicWire(Wire):
    def answer(self, connection, request):
        request_id = f"req_{secrets.token_hex(12)}"
        refusal = self._check(request)
        reply = None if refusal else self.next_reply(connection, request)
        if refusal is None and reply is None:
            refusal = (529, "overloaded_error", "Overloaded: the script has no more replies")
        if refusal is None and "refuse" in reply[0]:
            told = reply[0]["refuse"]
            refusal = (told["status"], told.get("type", "api_error"), told.get("message", "Refused"))
            if "body" in told:
                connection.send_json(told["status"], told["body"], told.get("headers"))
                return
        if refusal:
            headers = {"request-id": request_id, **(reply[0]["refuse"].get("headers", {}) if reply else {})}
            connection.send_json(refusal[0], self._error(*refusal[1:], request_id), headers)
            return
        connection.begin_stream({"request-id": request_id})
        _Answer(connection, request.body["model"]).play(reply)

    @staticmethod
    def _error(kind, message, request_id):
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}

    def _check(self, request):
        """Refuse what the real one refuses."""
        if (request.method, request.path) != ("POST", "/v1/messages"):
            return 404, "not_found_error", "Not Found"
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if not key or (self.api_key and key != self.api_key):
            return 401, "authentication_error", "invalid x-api-key"
        if "anthropic-version" not in headers:
            return 400, "invalid_request_error", "anthropic-version: header is required"
        problem = _problem(request.body)
        return problem and (400, "invalid_request_error", problem)


def _problem(body):
    if not body["messages"]:
        return "messages: at least one message is required"
    if body["messages"][0]["role"] != "user":
        return "messages: first message must use the user role"
    waiting = []
    for number, message in enumerate(body["messages"]):
        blocks = message["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return f"messages.{number}: text content blocks must contain non-whitespace text"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(waiting):
            return f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after"
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
    marked = json.dumps(body).count('"cache_control"')
    if marked > 4:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {marked}."
    return None


class _Answer:
    def __init__(self, connection, model):
        self.connection = connection
        self.model = model
        self.index = -1
        self.open = None
        self.stop = "end_turn"

    def event(self, kind, **data):
        self.connection.send(f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, ensure_ascii=False)}\n\n")

    def play(self, reply):
        usage = usage_of(reply)
        counts = {
            "input_tokens": usage["input"] - usage["cached"] - usage["written"],
            "cache_creation_input_tokens": usage["written"],
            "cache_read_input_tokens": usage["cached"],
            "cache_creation": {"ephemeral_5m_input_tokens": usage["written"], "ephemeral_1h_input_tokens": 0},
            "output_tokens": 1,
            "service_tier": "standard",
        }
        self.event(
            "message_start",
            message={
                "model": self.model,
                "id": f"msg_{secrets.token_hex(12)}",
                "type": "message",
                "role": "assistant",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": counts,
            },
        )
        for entry in reply:
            if "end" in entry:
                self.connection.end_stream()
                return
            if not self.connection.play_common(entry):
                self.entry(entry)
        self.close_block()
        delta = {"stop_reason": self.stop, "stop_sequence": None}
        if self.stop == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": "This was declined."}
        self.event("message_delta", delta=delta, usage={"output_tokens": usage["output"]})
        self.event("message_stop")
        self.connection.end_stream()

    def entry(self, entry):
        match entry:
            case {"text": _}:
                for text, pause_s in pieces(entry):
                    self.delta("text", {"text": ""}, {"type": "text_delta", "text": text})
                    self.connection.wait(seconds=pause_s)
            case {"reasoning": thought}:
                empty = {"thinking": "", "signature": ""}
                self.delta("thinking", empty, {"type": "thinking_delta", "thinking": thought})
            case {"tool": name}:
                self.call(name, entry)
            case {"finish": reason}:
                self.stop = STOP.get(reason, reason)
            case {"fault": told}:
                error = {"type": told.get("type", "overloaded_error"), "message": told.get("message", "Overloaded")}
                self.event("error", error={"details": None, **error})
                self.connection.end_stream()
                raise ConnectionError
            case {"usage": _}:
                pass
            case _:
                raise ValueError(f"unknown entry: {entry}")

    def call(self, name, entry):
        self.close_block()
        call_id = entry.get("call_id") or f"toolu_{secrets.token_hex(12)}"
        self.start_block("tool_use", {"id": call_id, "name": name, "input": {}})
        params = entry.get("params", {})
        text = params if isinstance(params, str) else json.dumps(params, ensure_ascii=False)
        for piece in ["", *split(text)]:
            self.event(
                "content_block_delta", index=self.index, delta={"type": "input_json_delta", "partial_json": piece}
            )
        self.close_block()
        self.stop = "tool_use"

    def delta(self, kind, empty, delta):
        if self.open != kind:
            self.close_block()
            self.start_block(kind, empty)
        self.event("content_block_delta", index=self.index, delta=delta)

    def start_block(self, kind, block):
        self.index += 1
        self.open = kind
        self.event("content_block_start", index=self.index, content_block={"type": kind, **block})
        if self.index == 0:
            self.event("ping")

    def close_block(self):
        if self.open == "thinking":
            signature = {"type": "signature_delta", "signature": secrets.token_hex(16)}
            self.event("content_block_delta", index=self.index, delta=signature)
        if self.open:
            self.event("content_block_stop", index=self.index)
        self.open = None


if __name__ == "__main__":
    main(AnthropicWire)
