"""Every way in: the routes of the URL map, with a request for each that would be served if it were let in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

HOST = "box.example:3000"
ANNA, BERT, EYES = "anna-secret-1", "bert-secret-2", "anna-eyes-only-3"
TOKENS = (f"anna:{ANNA}", f"bert:{BERT}", f"anna:read:{EYES}")

#: The smallest body that each model takes; what is not named here takes `{}`. A new route with a body that needs more
#: fails the matrix until it stands here.
LEAST: dict[str, dict[str, Any]] = {
    "SendMessage": {"content": "x"},
    "UpdateSession": {"title": "changed"},
    "AnswerPermission": {"response": "once"},
    "TuiInput": {"type": "text", "text": "typed"},
    "MakeTicket": {"path": "/tui/events"},
    "SignIn": {"token": "wrong"},
    "Render": {"texts": ["*words*"]},
}
#: What stands in a path besides the session; a new kind fails the matrix until it is thought about here.
OTHERS = {"turn_id": "trn_missing", "permission_id": "per_missing", "name": "index.html"}


@dataclass(frozen=True)
class Way:
    """One method of one rule. `scope` None is open to all; a view without a contract needs `write`."""

    method: str
    rule: str
    scope: str | None
    body: dict[str, Any] | None
    is_websocket: bool
    #: The name of the body's model, where it takes one.
    model: str

    @property
    def is_health(self) -> bool:
        return self.rule.startswith("/health")

    def path(self, session_id: str) -> str:
        values = {"session_id": session_id, **OTHERS}
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], self.rule)

    def ask(self, client: FlaskClient, session_id: str, **headers: str) -> TestResponse:
        """Send it; names of headers are written with `_`."""
        given = {"Host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
        if self.is_websocket:
            given |= {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            given |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        response = client.open(self.path(session_id), method=self.method, json=self.body, headers=given)
        response.close()
        return response

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"


def ways(app: Flask) -> Iterator[Way]:
    """All of them, from the URL map: no new one is forgotten."""
    for rule in app.url_map.iter_rules():
        contract = getattr(app.view_functions[rule.endpoint], "contract", None)
        model = contract.body.__name__ if contract is not None and contract.body is not None else ""
        scope = "write" if contract is None else contract.scope
        for method in sorted((rule.methods or {"GET"}) - {"HEAD", "OPTIONS"}):
            yield Way(method, rule.rule, scope, LEAST.get(model, {}) if model else None, rule.websocket, model)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Host": HOST}
