"""Sessions, turns, permissions, screens and keys belong to an owner; to anyone else they do not exist."""

import pytest

from opencode.provider.port import Text, ToolCall, Usage
from tests.security.door import ANNA, BERT, TOKENS, bearer
from tests.server.talk import create, follow, refused, say, stream

ASKS = [[ToolCall("call_1", "bash", {"command": "true"}), Usage(1, 1)], [Text("annas-own-words"), Usage(1, 1)]]


@pytest.fixture
def client(make_app):
    return make_app(ASKS, auth_tokens=TOKENS, permission={"bash": "ask"}).test_client(use_cookies=False)


def test_nobody_else_answers_aborts_or_reads_a_turn_also_by_way_of_his_own_session(client):
    hers, his = create(client, bearer(ANNA)), create(client, bearer(BERT))
    opened = say(client, hers, headers=bearer(ANNA))
    asked = opened.until("permission_request")[-1].data
    permission, turn = f"permission/{asked['permission_id']}", f"turn/{asked['turn_id']}"

    for body in ({"response": "once"}, {"response": "reject"}):
        refused(
            client.post(f"/api/session/{hers}/{permission}", json=body, headers=bearer(BERT)), 404, "SESSION_NOT_FOUND"
        )
        refused(client.post(f"/api/session/{his}/{permission}", json=body, headers=bearer(BERT)), 404, "NOT_FOUND")
    refused(client.get(f"/api/session/{his}/{turn}", headers=bearer(BERT)), 404, "NOT_FOUND")
    refused(client.get(f"/api/session/{his}/message?turn={asked['turn_id']}", headers=bearer(BERT)), 404, "NOT_FOUND")
    refused(client.post(f"/api/session/{hers}/abort", headers=bearer(BERT)), 404, "SESSION_NOT_FOUND")
    foreign = {"turn_id": asked["turn_id"]}
    aborted = client.post(f"/api/session/{his}/abort", json=foreign, headers=bearer(BERT))
    assert aborted.json == {"success": True, "aborted": False}

    # It waits for its owner all the while.
    assert client.get(f"/api/session/{hers}", headers=bearer(ANNA)).json["status"] == "waiting"
    assert (
        client.post(f"/api/session/{hers}/{permission}", json={"response": "once"}, headers=bearer(ANNA)).status_code
        == 200
    )
    assert opened.rest()[-1].data["status"] == "completed"


def test_a_fork_takes_no_message_of_anothers_session(client):
    hers, his = create(client, bearer(ANNA)), create(client, bearer(BERT))
    opened = say(client, hers, headers=bearer(ANNA))
    opened.until("permission_request")
    message_id = client.get(f"/api/session/{hers}", headers=bearer(ANNA)).json["messages"][0]["id"]

    refused(client.post(f"/api/session/{hers}/fork", json={}, headers=bearer(BERT)), 404, "SESSION_NOT_FOUND")
    body = {"message_id": message_id}
    refused(client.post(f"/api/session/{his}/fork", json=body, headers=bearer(BERT)), 400, "INVALID_REQUEST")
    assert client.get(f"/api/session/{his}?before={message_id}", headers=bearer(BERT)).json["messages"] == []
    assert hers not in client.get(f"/api/sessions?cursor={hers}", headers=bearer(BERT)).text
    client.post(f"/api/session/{hers}/abort", headers=bearer(ANNA))
    opened.rest()


def test_a_key_that_another_used_is_a_key_of_ones_own(client):
    keyed = {"Idempotency-Key": "the-same"}
    hers = create(client, {**bearer(ANNA), **keyed}, title="annas-own-words")

    his = client.post("/api/session", json={"title": "his"}, headers={**bearer(BERT), **keyed})

    assert his.status_code == 200
    assert his.json["session_id"] != hers
    assert "annas-own-words" not in his.text
    assert create(client, {**bearer(ANNA), **keyed}, title="annas-own-words") == hers
    # On her session his request fails before the key is looked at, with her key or without.
    path = f"/api/session/{hers}/message"
    refused(client.post(path, json={"content": "x"}, headers={**bearer(BERT), **keyed}), 404, "SESSION_NOT_FOUND")


def test_a_screen_of_the_same_name_is_another_screen(client):
    for owner in (ANNA, BERT):
        client.get("/tui/state", headers=bearer(owner))
    his = stream(client.get("/tui/events", headers=bearer(BERT)))
    hers = stream(client.get("/tui/events", headers=bearer(ANNA)))
    her_id = hers.last_id

    create(client, bearer(ANNA), title="hers")
    client.post("/tui/input", json={"type": "text", "text": "annas-own-words"}, headers=bearer(ANNA))
    client.post("/tui/input", json={"type": "text", "text": "his"}, headers=bearer(BERT))

    assert [event.name for event in hers.until("prompt")] == ["session_created", "prompt"]
    assert [event.data for event in his.until("prompt")] == [{"text": "his", "cursor": 3}]
    assert "annas" not in client.get("/tui/state", headers=bearer(BERT)).text
    # Her id on his screen is one of another life: it gives the state of his.
    resumed = stream(client.get("/tui/events", headers={**bearer(BERT), "Last-Event-ID": her_id}))
    (state,) = resumed.until("resync")
    assert state.data["prompt"] == "his"
    for opened in (his, hers, resumed):
        opened.close()


def test_another_can_neither_follow_on_from_my_screens_ids_nor_push_my_screens_out(client):
    hers = create(client, bearer(ANNA))
    select = {"type": "command", "command": "session.select", "session_id": hers}
    client.post("/tui/input", json=select, headers=bearer(ANNA))
    client.post("/tui/input", json={"type": "text", "text": "annas-own-words"}, headers=bearer(ANNA))
    opened = say(client, hers, "annas-own-words", bearer(ANNA))
    opened.until("permission_request")
    opened.close()
    state = client.get("/tui/state", headers=bearer(ANNA)).json
    epoch = state["last_event_id"].rpartition("-")[0]

    for last_id in (state["last_event_id"], f"{epoch}-0", f"{epoch}-10000000000"):
        resumed = stream(client.get(f"/tui/events?after={last_id}", headers=bearer(BERT)))
        (resync,) = resumed.until("resync")
        resumed.close()
        assert (resync.data["prompt"], resync.data["session_id"]) == ("", None)
    for number in range(51):
        assert client.get(f"/tui/state?tui=s{number}", headers=bearer(BERT)).status_code == 200

    assert client.get("/tui/state", headers=bearer(ANNA)).json == state


def test_what_another_deletes_or_follows_touches_nothing_of_mine(client):
    hers = create(client, bearer(ANNA))

    refused(client.delete(f"/api/session/{hers}", headers=bearer(BERT)), 404, "SESSION_NOT_FOUND")
    for query in ("", "?after=0", "?after=0&until=end", "?turn=trn_x"):
        refused(client.get(f"/api/session/{hers}/message{query}", headers=bearer(BERT)), 404, "SESSION_NOT_FOUND")
    assert follow(client, hers, "?until=end", bearer(ANNA)).rest() == []
