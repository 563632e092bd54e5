"""`stoker up` in the foreground: order, readiness, surroundings, restarts, and a clean end."""

import json
import os
import signal
import socket
import stat
from pathlib import Path

import httpx
import pytest
import redis

from tests.integration.supervised import interrupt, part, project


def test_each_part_starts_after_what_it_needs_and_stops_before_it(tmp_path: Path) -> None:
    chain = [part("front", needs=["middle"]), part("middle", needs=["back"]), part("back")]
    with project(tmp_path, *chain) as it:
        up = it.up()
        interrupt(up)
        assert up.wait(60) == 0
        starts = [f"{name} {does}" for name in ("back", "middle", "front") for does in ("starts", "ready")]
        assert it.journal == ["migrate", "new key", *starts, "front SIGTERM", "middle SIGTERM", "back SIGTERM"]
        assert it.processes() == []


def test_what_is_remarked_of_the_settings_is_said_last(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it:
        table = json.loads((it.folder / "parts.json").read_text())
        (it.folder / "parts.json").write_text(json.dumps(table | {"remark": "Nobody reads STOKER_HOMME."}))
        it.up()
        assert "stoker | Nobody reads STOKER_HOMME.\nstoker | Everything is ready" in it.output


def test_http_parts_are_ready_when_they_answer_200(tmp_path: Path) -> None:
    api = part("api", "serves", "{api_port}", ready={"kind": "http", "path": "/health"})
    flower = part(
        "flower", "serves", "{flower_port}", own=False, ready={"kind": "http", "path": "/health", "port": "flower"}
    )
    with project(tmp_path, api, flower) as it:
        it.up()
        ports = it.run()["ports"]
        assert httpx.get(f"http://127.0.0.1:{ports['api']}/health").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{ports['flower']}/health").status_code == 200
        assert it.run()["parts"] == {"api": "ready", "flower": "ready"}


def test_parts_are_told_where_everything_is(tmp_path: Path) -> None:
    with project(tmp_path, part("own"), part("foreign", own=False)) as it:
        it.environment |= {"STOKER_S3_BUCKET": "mine", "STOKER_LEASE_SECONDS": "2", "OMP_NUM_THREADS": "3"}
        it.up()
        seen, run = it.seen_environment("own"), it.run()
        given = (
            "STOKER_REDIS_URL",
            "STOKER_S3_ENDPOINT",
            "STOKER_S3_BUCKET",
            "STOKER_LEASE_SECONDS",
            "OMP_NUM_THREADS",
        )
        assert {name: seen[name] for name in given} == {name: it.environment[name] for name in given}
        assert seen["STOKER_S3_PUBLIC_ENDPOINT"] == it.environment["STOKER_S3_ENDPOINT"]
        assert seen["STOKER_DATABASE_URL"] == f"sqlite+pysqlite:///{it.state}/data/stoker.db"
        assert seen["STOKER_WEIGHTS_DIR"] == f"{it.state}/weights"
        assert seen["STOKER_API_PORT"] == str(run["ports"]["api"])
        assert seen["STOKER_ENVIRONMENT"] == "development"
        assert seen["OMP_WAIT_POLICY"] == "PASSIVE"
        assert seen["STOKER_READY_FILE"] == str(it.state / "ready" / "own")
        assert "STOKER_PARENT_FD" not in it.seen_environment("foreign")
        assert set(run["parts"]) == {"own", "foreign"}  # what was given is not started


def test_clients_find_the_door_and_the_key(tmp_path: Path) -> None:
    with project(tmp_path, part("api")) as it:
        up = it.up()
        it.wait_for_output('curl -sS "$STOKER_URL/v1/jobs"', up)
        client = it.state / "client.env"
        assert stat.S_IMODE(client.stat().st_mode) == 0o600
        told = dict(line.removeprefix("export ").split("=", 1) for line in client.read_text().splitlines())
        ports, login = it.run()["ports"], it.seen_environment("api")["STOKER_FLOWER_BASIC_AUTH"]
        assert told == {
            "STOKER_URL": f"http://127.0.0.1:{ports['api']}",
            "STOKER_API_KEY": "sk-valid",
            "STOKER_FLOWER_URL": f"http://{login}@127.0.0.1:{ports['flower']}",
        }
        assert "sk-valid" not in it.output
        assert stat.S_IMODE((it.state / "secrets").stat().st_mode) == 0o600


def test_the_key_is_kept_while_it_is_valid(tmp_path: Path) -> None:
    with project(tmp_path, part("api")) as it:
        for _ in range(2):
            up = it.up()
            interrupt(up)
            up.wait(60)
        assert it.journal.count("new key") == 1
        client = it.state / "client.env"
        client.write_text(client.read_text().replace("sk-valid", "sk-revoked"))
        it.up()
        assert it.journal.count("new key") == 2
        assert "STOKER_API_KEY=sk-valid\n" in client.read_text()


def test_its_own_redis_and_s3_keep_their_data_over_runs(tmp_path: Path) -> None:
    with project(tmp_path, part("api")) as it:
        it.use_real_services()
        up = it.up()
        seen = it.seen_environment("api")
        assert httpx.get(seen["STOKER_S3_ENDPOINT"]).is_client_error  # it is there, and wants a signature
        assert (it.state / "data/s3/stoker").is_dir()
        with redis.Redis.from_url(seen["STOKER_REDIS_URL"]) as client:
            client.set("kept", "yes")
        with redis.Redis(port=it.run()["ports"]["redis"]) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        shown = [word for process in it.processes() for word in process.cmdline()]
        assert shown
        assert not [word for word in shown if client.connection_pool.connection_kwargs["password"] in word]
        interrupt(up)
        assert up.wait(60) == 0
        it.up()
        again = it.seen_environment("api")
        assert again["STOKER_S3_SECRET_KEY"] == seen["STOKER_S3_SECRET_KEY"]
        with redis.Redis.from_url(again["STOKER_REDIS_URL"]) as client:
            assert client.get("kept") == b"yes"


def test_a_taken_port_is_replaced_and_said(tmp_path: Path) -> None:
    with project(tmp_path, part("api")) as it, socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", 8000))
            holder.listen()
        except OSError:
            pass  # somebody else holds it: that will do
        it.up()
        port = it.run()["ports"]["api"]
        assert port != 8000
        assert f"Port 8000 is taken, so api listens on {port}." in it.output
        assert it.run()["url"] == f"http://127.0.0.1:{port}"


def test_a_part_that_dies_is_started_again_and_said(tmp_path: Path) -> None:
    with project(tmp_path, part("own"), part("foreign", own=False)) as it:
        up = it.up()
        for name in ("own", "foreign"):
            (process,) = [p for p in it.processes() if p.cmdline()[1:3] == ["part.py", name]]
            process.send_signal(signal.SIGKILL)
            it.wait_for_output(f"{name} ended by SIGKILL; starting it again in 0.5 s", up)
        it.wait_until(lambda: min(it.journal.count(f"{name} ready") for name in ("own", "foreign")) == 2, up)
        it.wait_until(lambda: set(it.run()["parts"].values()) == {"ready"}, up)
        assert it.call("status").returncode == 0


def test_a_part_that_never_gets_ready_ends_the_start(tmp_path: Path) -> None:
    with project(tmp_path, part("good"), part("slow", "never", start_seconds=0.5)) as it:
        up = it.start("up")
        assert up.wait(60) == 1
        assert f"slow was not ready within 0.5 s. Its log is {it.state}/logs/slow.log. Its last lines:" in it.output
        assert "slow says hello" in it.output.rpartition("Its last lines:")[2]
        assert it.output.count("Its last lines:") == 1
        assert it.processes() == []
        assert "good SIGTERM" in it.journal


def test_a_refused_migration_ends_the_start_with_its_sentence(tmp_path: Path) -> None:
    with project(tmp_path, part("api")) as it:
        (it.folder / "refusal").write_text("The database is newer than this code.")
        it.use_real_services()
        assert it.start("up").wait(60) == 1
        assert "The database is newer than this code." in it.output
        assert it.processes() == []


def test_one_ctrl_c_reaches_the_parts_as_one_sigterm(tmp_path: Path) -> None:
    with project(tmp_path, part("own", "child"), part("foreign", own=False)) as it:
        up = it.up()
        interrupt(up)
        assert up.wait(60) == 0
        assert sorted(line for line in it.journal if "SIG" in line) == ["foreign SIGTERM", "own SIGTERM"]
        assert it.processes() == []  # not even what a part left in its group


def test_a_second_ctrl_c_kills_what_does_not_stop(tmp_path: Path) -> None:
    with project(tmp_path, part("mule", "stubborn", stop_seconds=600)) as it:
        up = it.up()
        interrupt(up)
        it.wait_until(lambda: "mule SIGTERM" in it.journal, up)
        interrupt(up)
        assert up.wait(60) == 0
        assert it.processes() == []


def test_a_part_that_outstays_its_grace_is_killed_and_said(tmp_path: Path) -> None:
    with project(tmp_path, part("mule", "stubborn", stop_seconds=0.2)) as it:
        up = it.up()
        up.terminate()
        assert up.wait(60) == 0
        assert "mule did not stop within 0.2 s: killed" in it.output
        assert it.processes() == []


def test_kill_9_leaves_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    with project(tmp_path, part("own"), part("foreign", own=False)) as it:
        it.use_real_services()
        up = it.up()
        assert len(it.processes()) == 8  # itself, an own part, and three programs with their shims
        up.kill()
        it.up()  # waits for the last of the earlier parts
        assert len(it.processes()) == 8
        os.kill(it.run()["pid"], signal.SIGKILL)
        it.wait_until_empty()


def test_killing_make_is_killing_make_up(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it:
        it.environment["MAKELEVEL"] = "1"
        make = it.up(prefix=("sh", "-c", '"$@"; true', "make"))
        assert len(it.processes()) == 3
        make.kill()
        it.wait_until_empty()


def test_what_parts_say_carries_their_name_and_is_kept(tmp_path: Path) -> None:
    with project(tmp_path, part("speaker")) as it:
        up = it.up()
        assert "speaker | speaker says hello\n" in it.output
        interrupt(up)
        up.wait(60)
        it.up()
        logs = it.state / "logs"
        assert (logs / "speaker.log").read_text() == "speaker says hello\n"
        assert (logs / "speaker.log.1").read_text() == "speaker says hello\n"
        assert "speaker is ready" in (logs / "stoker.log").read_text()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("STOKER_API_PORT", "http", "STOKER_API_PORT is 'http'; a port is a number from 1 to 65535."),
        ("STOKER_S3_SECRET_KEY", "", "STOKER_S3_ENDPOINT is set, but STOKER_S3_SECRET_KEY is not."),
    ],
)
def test_a_setting_that_cannot_work_is_named(tmp_path: Path, variable: str, value: str, sentence: str) -> None:
    with project(tmp_path) as it:
        it.environment[variable] = value
        assert it.start("up").wait(60) == 1
        assert sentence in it.output
