"""API keys over HTTP: who may make, see and revoke which."""

import time

import pytest

from producer_api.authentication import KNOWN_SECONDS
from producer_api.documents import KeyList, NewKeyAnswer
from tests.api import TEXT, Desk, eventually

PROMISED_SECONDS = 5


async def test_a_made_key_opens_the_api_and_is_shown_once(desk: Desk) -> None:
    answer = await desk.client.post("/v1/keys", json={"name": "n", "scopes": ["read", "submit"]})
    assert answer.status_code == 201
    made = NewKeyAnswer.model_validate_json(answer.content)
    headers = {"Authorization": f"Bearer {made.key}"}
    assert (await desk.client.post("/v1/jobs", json=TEXT, headers=headers)).status_code == 202
    listed = await desk.client.get("/v1/keys", headers=headers)
    assert made.key not in listed.text
    found = KeyList.model_validate_json(listed.content).data[0]
    assert (found.id, found.hint, found.scopes) == (made.id, f"…{made.key[-4:]}", ["read", "submit"])


async def test_a_revoked_key_stops_working_within_the_promised_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KNOWN_SECONDS < PROMISED_SECONDS
    monkeypatch.setattr("producer_api.authentication.KNOWN_SECONDS", 0.2)
    made = (await desk.client.post("/v1/keys", json={"name": "n", "scopes": ["read"]})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert (await desk.client.get("/v1/jobs", headers=headers)).status_code == 200
    assert (await desk.client.delete(f"/v1/keys/{made['id']}")).status_code == 204

    async def is_refused() -> bool:
        return (await desk.client.get("/v1/jobs", headers=headers)).status_code != 200

    await eventually(is_refused)
    answer = await desk.client.get("/v1/jobs", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("scopes", "wanted", "status", "words"),
    [
        (("admin",), {"scopes": ["read"]}, 403, "A key may not give what it lacks: take read out"),
        (("admin", "read"), {"scopes": ["read", "submit"]}, 403, "take submit out of 'scopes'"),
        (("submit", "read"), {"scopes": ["read"]}, 403, "lacks the scope 'admin'"),
        (("admin",), {"scopes": []}, 422, "'scopes' is not valid"),
        (("admin",), {"scopes": ["god"]}, 422, "'submit', 'read' or 'admin'"),
        (("admin",), {"scopes": ["admin"], "expires_in_days": 0}, 422, "'expires_in_days' is not valid"),
        (("admin",), {"scopes": ["admin"], "owner": "me"}, 422, "There is no field 'owner' here"),
    ],
)
async def test_a_key_gives_no_more_than_it_has(
    desk: Desk, scopes: tuple[str, ...], wanted: dict[str, object], status: int, words: str
) -> None:
    answer = await desk.client.post("/v1/keys", json={"name": "n", **wanted}, headers=desk.bearer("local", scopes))
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


async def test_a_key_that_ends_makes_none_that_outlives_it(desk: Desk) -> None:
    headers = {"Authorization": f"Bearer {desk.key('local', expires_at=time.time() + 86_400)}"}
    refused = await desk.client.post(
        "/v1/keys", json={"name": "n", "scopes": ["read"], "expires_in_days": 2}, headers=headers
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "expires_in_days")
    made = await desk.client.post("/v1/keys", json={"name": "n", "scopes": ["read"]}, headers=headers)
    assert made.json()["expires_at"] is not None


async def test_an_admin_makes_and_sees_keys_of_others(desk: Desk) -> None:
    made = (await desk.client.post("/v1/keys", json={"name": "n", "scopes": ["read"], "caller": "new"})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert (await desk.client.get("/v1/jobs", headers=headers)).json()["data"] == []
    assert [key["id"] for key in (await desk.client.get("/v1/keys?caller=new")).json()["data"]] == [made["id"]]
    assert len((await desk.client.get("/v1/keys?caller=*")).json()["data"]) == 2
    assert (await desk.client.get("/v1/keys?caller=*", headers=headers)).status_code == 403


async def test_who_finds_a_key_cannot_lock_its_owner_out(desk: Desk) -> None:
    mine = (await desk.client.get("/v1/keys")).json()["data"][0]["id"]
    for caller in ("local", "other"):
        answer = await desk.client.delete(f"/v1/keys/{mine}", headers=desk.bearer(caller, ("submit", "read")))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert (await desk.client.get("/v1/keys")).status_code == 200


async def test_a_key_that_is_not_there_cannot_be_revoked(desk: Desk) -> None:
    answer = await desk.client.delete("/v1/keys/key_x")
    assert answer.status_code == 404
    assert "There is no key 'key_x'" in answer.text


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("POST", "/v1/queues/text.echo.cpu0/pause"),
        ("POST", "/v1/queues/text.echo.cpu0/resume"),
        ("POST", "/v1/queues/text.echo.cpu0/purge"),
        ("POST", "/v1/queues/text.echo.cpu0/drain"),
        ("POST", "/v1/workers/worker_x/drain"),
        ("GET", "/metrics"),
    ],
)
async def test_what_steers_everybody_is_for_admins(desk: Desk, method: str, address: str) -> None:
    answer = await desk.client.request(method, address, headers=desk.bearer("local", ("submit", "read")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "lacks the scope 'admin'" in answer.text


@pytest.mark.parametrize("address", ["/v1/jobs", "/v1/models", "/v1/queues", "/v1/workers", "/v1/keys", "/metrics"])
async def test_nothing_is_shown_without_a_key(desk: Desk, address: str) -> None:
    answer = await desk.client.get(address, headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
