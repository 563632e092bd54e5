"""The README's shell lines, run one after the other as a reader would."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.acceptance.platform import ROOT, Platform

BLOCK = re.compile(r"```sh run\n(.*?)```", re.DOTALL)


def test_the_first_afternoon_works_as_written(demo: Platform, tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 5
    submit, follow, look, command_line, openai = (f"set -eu\n{block}" for block in blocks)
    shell = f". {demo.state.path}/client.env\n"

    job = json.loads(_run(shell + submit))
    assert job["status"] == "succeeded"
    assert job["output"]["text"]

    said = _run(shell + follow)
    polled, events = said.split("retry:", 1)
    assert json.loads(polled)["status"] == "succeeded"
    assert events.index("event: started") < events.index("event: token") < events.index("event: finished")
    result = json.loads(events[events.rindex('{"text"') :])
    assert result["text"] == json.loads(polled)["output"]["text"]

    ended = json.loads(polled)["id"]
    canceled, listed, queues = _documents(_run(f"{shell}JOB={ended}\n{look}"))
    assert canceled["id"] == ended
    assert ended in [one["id"] for one in listed["data"]]
    assert {queue["name"] for queue in queues["data"]} >= {"text.chat.cpu0"}

    command_line = command_line.replace("bin/stoker", f"{ROOT}/bin/stoker")
    said = _run(f"cd {tmp_path}; {shell}export STOKER_URL STOKER_API_KEY\n{command_line}")
    assert said.count("worker") >= 2
    assert re.search(r"(\d+) of \1 jobs succeeded", said)
    assert len(list((tmp_path / "pictures").iterdir())) == 4
    assert (tmp_path / "stoker-demo" / "sheet.png").is_file()

    answer = json.loads(_run(shell + openai))
    assert answer["choices"][0]["message"]["content"]


def _run(script: str) -> str:
    answer = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _documents(text: str) -> list[dict[str, Any]]:
    found, decoder = [], json.JSONDecoder()
    while text.strip():
        document, end = decoder.raw_decode(text.strip())
        found.append(document)
        text = text.strip()[end:]
    return found
