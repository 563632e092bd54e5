"""The API as a real process over real Redis, S3 and SQL: whole stories, many waiters, sick stores, polite ends."""

import asyncio
import http.client
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis

from schemas.events import EventType
from tests.api import QUEUE, TEXT, Desk, eventually
from tests.integration.api_server import run_server, visit
from tests.integration.house import NOBODY, House, migrate, told
from tests.services import RedisServer, S3Server, run_postgres, run_redis

MIB = 2**20
WAITERS = 50
LISTENERS = 200


async def test_a_job_from_submit_to_download(house: House, redis_url: str) -> None:
    desk = house.desk
    submitting = asyncio.create_task(desk.client.post("/v1/jobs", json=TEXT, headers={"Prefer": "wait=50"}))

    async def is_stored() -> bool:
        return desk.count_rows() == 1

    await eventually(is_stored)
    worker = desk.worker()
    job = worker.claim()
    listening = asyncio.create_task(desk.client.get(f"/v1/jobs/{job.id}/events"))
    await worker.say(job, (EventType.STARTED, {}), (EventType.TOKEN, {"text": "hi"}))
    await worker.finish(job, output={"text": "hi"}, artifacts=[worker.store(job, "result.json", b'{"text":"hi"}')])
    await worker.say(job, (EventType.FINISHED, {"status": "succeeded", "error": None}), begin=3)
    answer = await submitting
    assert (answer.status_code, answer.json()["output"]) == (200, {"text": "hi"})
    assert [line for line in (await listening).text.splitlines() if line.startswith("id:")] == [
        "id: 1-1",
        "id: 1-2",
        "id: 1-3",
    ]
    result = await desk.client.get(f"/v1/jobs/{job.id}/result", follow_redirects=True)
    assert (result.content, result.headers["content-disposition"]) == (
        b'{"text":"hi"}',
        "attachment; filename*=UTF-8''result.json",
    )
    assert (await desk.client.delete(f"/v1/jobs/{job.id}")).status_code == 204
    assert desk.objects.list(f"jobs/{job.id}/", None, 10) == []
    with redis.Redis.from_url(redis_url) as client:
        [hint] = client.lrange(QUEUE, 0, -1)
    assert json.loads(hint)["headers"]["task"] == "jobs.run"


@pytest.mark.parametrize("address", ["/v1/jobs/{job}/cancel", "/v1/queues/{queue}/purge"])
async def test_whoever_ends_waiting_jobs_wakes_the_sender_of_webhooks(
    sqlite_house: House, redis_url: str, address: str
) -> None:
    job_id = await sqlite_house.desk.submit()
    answer = await sqlite_house.desk.client.post(address.format(job=job_id, queue=QUEUE))
    assert answer.status_code == 200
    assert sqlite_house.desk.row(job_id).status == "canceled"
    with redis.Redis.from_url(redis_url) as client:

        async def is_woken() -> bool:
            return bool(client.llen("webhooks"))

        await eventually(is_woken)


async def test_what_people_look_at_works_on_each_database(house: House) -> None:
    desk = house.desk
    job_id = await desk.submit(metadata={"run": "a", "n": 1})
    other = await desk.submit(metadata={"run": "b"})
    assert [job["id"] for job in (await desk.client.get("/v1/jobs?metadata[run]=a&metadata[n]=1")).json()["data"]] == [
        job_id
    ]
    assert (await desk.look(other))["queue"]["position"] == 2
    assert (await desk.client.get(f"/v1/queues/{QUEUE}")).json()["depth"] | {"hints": 0} == {
        "queued": 2,
        "scheduled": 0,
        "running": 0,
        "lines": 0,
        "running_lines": 0,
        "hints": 0,
    }
    assert (await desk.client.post(f"/v1/queues/{QUEUE}/purge")).json()["canceled"] == 2
    assert (await desk.client.post(f"/v1/jobs/{job_id}/retry")).json()["retry_of"] == job_id
    for address in ("/v1/models", "/v1/workers", "/v1/keys", "/metrics", "/health/ready"):
        assert (await desk.client.get(address)).status_code == 200


async def test_many_who_wait_cost_no_thread_and_no_connection(own_house: House, redis_url: str) -> None:
    desk, server = own_house.desk, own_house.server
    ids = await asyncio.gather(*(desk.submit() for _ in range(WAITERS)))
    with redis.Redis.from_url(redis_url) as client:
        first = asyncio.create_task(desk.client.get(f"/v1/jobs/{ids[0]}?wait=60"))
        await asyncio.sleep(0.3)
        before = server.process.num_threads(), len(client.client_list())
        waiting = [desk.client.get(f"/v1/jobs/{job_id}?wait=60") for job_id in ids]
        listening = [desk.client.get(f"/v1/jobs/{ids[n % WAITERS]}/events") for n in range(LISTENERS)]
        crowd = [asyncio.create_task(one) for one in (*waiting, *listening)]

        async def all_are_there() -> bool:
            heard = [int(one["sub"]) for one in client.client_list()]
            is_heard = WAITERS + 2 in heard  # all over one connection: the news of jobs, all ends, and its anchor
            return is_heard and len(server.process.net_connections()) > WAITERS + LISTENERS

        await eventually(all_are_there)
        await asyncio.sleep(0.5)
        during = server.process.num_threads(), len(client.client_list())
        await desk.client.post(f"/v1/queues/{QUEUE}/purge")
        answers = await asyncio.gather(first, *crowd)
    assert {answer.status_code for answer in answers} == {200}
    assert all("canceled" in answer.text for answer in answers)
    assert during[0] <= before[0] + 4  # SQL's readers, whatever the number of clients
    assert during[1] <= before[1] + 16  # the pool's bound, as above


async def test_the_process_stays_small(own_house: House) -> None:
    await asyncio.gather(*(own_house.desk.submit() for _ in range(300)))
    assert own_house.server.process.memory_info().rss < 150 * MIB


async def test_a_stopping_server_answers_those_who_wait(own_house: House, tmp_path: Path) -> None:
    desk, server = own_house.desk, own_house.server
    job_id = await desk.submit()
    waiting = asyncio.create_task(desk.client.get(f"/v1/jobs/{job_id}?wait=60"))
    listening = asyncio.create_task(desk.client.get(f"/v1/jobs/{job_id}/events"))

    async def both_wait() -> bool:
        return len(server.process.net_connections()) >= 3

    await eventually(both_wait)
    await asyncio.sleep(0.2)
    await asyncio.to_thread(server.stop)
    assert (await waiting).json()["status"] == "queued"
    assert (await listening).text == "retry: 1000\n\n"


def test_the_server_ends_with_its_supervisor(database_url: str, redis_url: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    ready = tmp_path / "ready"
    surroundings = told(tmp_path, database_url, redis_url, None, parent_fd=str(reader), ready_file=str(ready))
    with run_server(surroundings, tmp_path, reader) as server:
        os.close(reader)
        assert ready.exists()
        assert server.process.is_running()
        os.close(writer)
        server.process.wait(60)
    assert "The supervisor is gone" in server.log.read_text()


def test_without_redis_and_s3_it_starts_serves_and_says_so(database_url: str, tmp_path: Path) -> None:
    surroundings = told(tmp_path, database_url, f"redis://{NOBODY}/0", None)
    with run_server(surroundings, tmp_path) as server:
        answer = httpx.get(f"{server.url}/health/ready", timeout=30)
        assert (answer.status_code, answer.json()) == (200, {"status": "degraded", "degraded": ["redis", "objects"]})
        assert httpx.get(f"{server.url}/v1/jobs").status_code == 401
        server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert ["redis", "objects"] in [line.get("degraded") for line in lines]
    assert "Traceback" not in server.log.read_text()


async def test_a_sick_redis_stops_nobody(database_url: str, s3_server: S3Server, tmp_path: Path) -> None:
    with run_redis(tmp_path / "redis") as own:
        surroundings = told(tmp_path, database_url, own.url, s3_server)
        with run_server(surroundings, tmp_path) as server:
            async with visit(server, surroundings) as desk:
                accepted = await _accepted(desk, own)
                assert desk.count_rows() == len(set(accepted))


async def _accepted(desk: Desk, own: RedisServer) -> list[str]:
    """Freeze, kill and bring back Redis under a server: all are accepted and waiters still hear of the end."""
    accepted = [await desk.submit()]
    waiting = asyncio.create_task(desk.client.get(f"/v1/jobs/{accepted[0]}?wait=60"))
    own.pause()

    async def is_known_to_be_sick() -> bool:
        accepted.append(await desk.submit())
        figures = (await desk.client.get("/metrics")).text
        return "stoker_hints_dropped 0.0" not in figures

    await eventually(is_known_to_be_sick)
    desk.database.transact(lambda connection: connection.exec_driver_sql("UPDATE jobs SET status = 'canceled'"))
    assert (await waiting).json()["status"] == "canceled"
    own.resume()
    own.kill()
    accepted.append(await desk.submit())
    own.start()

    async def is_hinted() -> bool:
        accepted.append(await desk.submit())
        with redis.Redis.from_url(own.url) as client:
            return bool(client.llen(QUEUE))

    await eventually(is_hinted)
    return accepted


async def test_without_sql_nothing_is_accepted_until_it_is_back(
    redis_url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    postgres = run_postgres(tmp_path / "postgres")
    if postgres.server is None:
        pytest.skip("the Postgres of STOKER_TEST_POSTGRES_URL is not ours to stop")
    with postgres:
        surroundings = told(tmp_path, migrate(postgres.url), redis_url, s3_server)
        with run_server(surroundings, tmp_path) as server:
            async with visit(server, surroundings) as desk:
                await desk.submit()
                postgres.server.stop()
                refused = await desk.client.post("/v1/jobs", json=TEXT)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
                assert "postgres" not in refused.text.lower()
                assert int(refused.headers["retry-after"]) >= 1

                async def is_unavailable() -> bool:
                    return (await desk.client.get("/health/ready")).status_code == 503

                await eventually(is_unavailable)
                postgres.server.start()

                async def is_accepted() -> bool:
                    return (await desk.client.post("/v1/jobs", json=TEXT)).status_code == 202

                await eventually(is_accepted)


@pytest.mark.parametrize("size", [9 * MIB, 40 * MIB])
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(
    ("path", "key", "code"),
    [("/v1/jobs", True, "too_large"), ("/v1/files", False, "unauthenticated"), ("/v1/nowhere", True, "too_large")],
)
async def test_an_ordinary_client_sees_why_a_large_body_is_refused(
    sqlite_house: House, path: str, code: str, size: int, *, key: bool, is_chunked: bool
) -> None:
    def send() -> bytes:
        address = urlsplit(sqlite_house.server.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        body = (bytes(MIB) for _ in range(size // MIB)) if is_chunked else bytes(size)
        headers = {"Connection": "close"}  # as urllib sends it
        if key:
            headers["Authorization"] = sqlite_house.desk.client.headers["authorization"]
        connection.request("POST", path, body, headers)  # it reads nothing before it has sent all
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return content

    told = json.loads(await asyncio.to_thread(send))["error"]["code"]
    assert told == ("not_found" if is_chunked and path == "/v1/nowhere" else code)


async def test_a_body_beyond_all_reason_is_not_read(sqlite_house: House) -> None:
    address = urlsplit(sqlite_house.server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
    async with asyncio.timeout(60):
        answer = await reader.readuntil(b"}}")
        writer.write_eof()
        assert await reader.read() == b""  # nobody reads on
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


async def test_the_log_has_ids_and_no_secrets(own_house: House) -> None:
    secret = own_house.desk.client.headers["authorization"].removeprefix("Bearer ")
    job_id = await own_house.desk.submit(input={"prompt": "Geheimnis"})
    await asyncio.to_thread(own_house.server.stop)
    said = own_house.server.log.read_text()
    lines = [json.loads(line) for line in said.splitlines()]
    [line] = [line for line in lines if line.get("path") == "/v1/jobs"]
    assert (line["job"], line["status"], line["part"], line["event"]) == (job_id, 202, "api", "request")
    assert line["request_id"].startswith("req_")
    assert secret not in said
    assert "Geheimnis" not in said
    assert psutil.pid_exists(own_house.server.process.pid) is False
