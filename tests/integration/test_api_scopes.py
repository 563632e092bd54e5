"""Every operation of the API needs one scope, and neither of the others opens it."""

import re

from producer_api.app import route_app
from tests.api import ALL_SCOPES, Desk

OPEN = {"GET /health/live", "GET /health/ready"}
OTHERS = {
    "GET /metrics": "admin",
    "GET /v1/webhooks/secret": "submit",
    "POST /v1/keys": "admin",
    "DELETE /v1/keys/{key_id}": "admin",
    "POST /v1/queues/{name}/pause": "admin",
    "POST /v1/queues/{name}/resume": "admin",
    "POST /v1/queues/{name}/purge": "admin",
    "POST /v1/queues/{name}/drain": "admin",
    "POST /v1/workers/{worker_id}/drain": "admin",
}
"""What is not as usual: who looks needs `read`, who changes something needs `submit`."""


def needed(operation: str) -> str:
    return OTHERS.get(operation, "read" if operation.startswith("GET ") else "submit")


async def test_every_operation_needs_its_scope_and_no_other(desk: Desk) -> None:
    described = route_app().openapi()["paths"]
    operations = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods} - OPEN
    assert operations >= OTHERS.keys()
    wrong = []
    for scope in ALL_SCOPES:
        headers = desk.bearer("local", (scope,))
        for operation in sorted(operations):
            method, path = operation.split(" ")
            answer = await desk.client.request(method, re.sub(r"\{\w+\}", "x", path), headers=headers)
            if (answer.status_code == 403) == (scope == needed(operation)):
                wrong.append((operation, scope, answer.status_code))
    assert wrong == []
