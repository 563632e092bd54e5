"""`stoker up --detach`, `down` and `status`: one supervisor per folder, found by its lock and nobody else's."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.supervised import part, project


def test_detached_it_returns_when_ready_and_closes_its_output(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it:
        # The pipe ends only when nobody holds it any more; descriptor 9 stands for what a caller leaves open.
        command = f"({sys.executable} -m stoker up --detach; echo code $?) 2>&1 9>&1 | cat"
        shown = subprocess.run(
            ["sh", "-c", command],
            cwd=it.folder,
            env=it.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        assert "own is ready" in shown
        assert "Your first job:" in shown
        assert shown.endswith("code 0\n")
        assert "says hello" not in shown
        assert it.call("status").stdout.splitlines()[1:] == ["  own  ready"]


def test_down_stops_a_detached_one_and_says_so(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it:
        assert it.call("up", "--detach").returncode == 0
        pid = it.run()["pid"]
        stopped = it.call("down")
        assert (stopped.returncode, stopped.stdout) == (0, f"Stopping Stoker (process {pid}).\nStopped.\n")
        assert it.processes() == []
        assert it.journal[-1] == "own SIGTERM"


def test_down_stops_a_foreground_one(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it:
        up = it.up()
        assert it.call("down").returncode == 0
        assert up.wait(60) == 0


def test_down_without_one_is_a_sentence(tmp_path: Path) -> None:
    with project(tmp_path) as it:
        answer = it.call("down")
        assert (answer.returncode, answer.stdout) == (0, "Stoker is not running in .stoker.\n")
        assert it.call("status").returncode == 1


def test_down_never_touches_a_process_that_took_over_the_number(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it, subprocess.Popen(["sleep", "600"]) as innocent:
        up = it.up()
        run = it.run()
        up.kill()
        up.wait(60)
        (it.state / "run.json").write_text(json.dumps(run | {"pid": innocent.pid}))
        assert it.call("down").stdout == "Stoker is not running in .stoker.\n"
        assert innocent.poll() is None
        innocent.kill()


def test_a_failed_start_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with project(tmp_path, part("good"), part("slow", "never", start_seconds=0.5)) as it:
        answer = it.call("up", "--detach")
        assert answer.returncode == 1
        assert "slow was not ready within 0.5 s" in answer.stdout
        assert it.processes() == []


def test_a_part_that_dies_while_it_starts_says_why(tmp_path: Path) -> None:
    with project(tmp_path, part("sick", "dies")) as it:
        up = it.start("up", "--detach")
        it.wait_for_output("sick ended with exit code 3; starting it again in 0.5 s\n  sick says hello\n", up)
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 130
        assert it.processes() == []


@pytest.mark.parametrize("arguments", [["up"], ["up", "--detach"]])
def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path, arguments: list[str]) -> None:
    with project(tmp_path) as it:
        it.state.parent.mkdir(exist_ok=True)
        it.state.write_text("a file is in the way")
        answer = it.call(*arguments)
        assert (answer.returncode, answer.stdout, answer.stderr) == (
            1,
            "The folder .stoker cannot be used (File exists); set STOKER_HOME to one that can be written.\n",
            "",
        )
        it.state.unlink()


def test_ctrl_c_while_it_starts_stops_the_start(tmp_path: Path) -> None:
    with project(tmp_path, part("slow", "never")) as it:
        up = it.start("up", "--detach")
        it.wait_until(lambda: (it.folder / "journal").exists() and "slow starts" in it.journal, up)
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 130
        assert it.processes() == []


def test_a_second_up_says_that_one_is_running(tmp_path: Path) -> None:
    with project(tmp_path, part("own")) as it:
        it.up()
        for arguments in (["up"], ["up", "--detach"]):
            answer = it.call(*arguments)
            assert answer.returncode == 1
            assert f"Stoker already runs in .stoker: {it.run()['url']}" in answer.stdout
        assert it.call("status").returncode == 0


def test_two_folders_run_side_by_side(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with project(tmp_path / "one", part("own")) as one, project(tmp_path / "two", part("own")) as two:
        one.use_real_services()
        two.use_real_services()
        one.up()
        two.up()
        assert one.call("down").returncode == 0
        assert two.call("status").returncode == 0
