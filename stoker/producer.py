"""What the supervisor asks of `python -m producer_api` before it starts the parts."""

import json
import sys
from functools import partial
from tempfile import TemporaryFile

from stoker.console import Console
from stoker.errors import StartError
from stoker.keeper import Surroundings
from stoker.parts import Part, read_parts, read_remark
from stoker.process import Process, how_it_ended
from stoker.shim import shim_command

LOG_NAME = "setup"
SCOPES = "submit,read,admin"


class Producer:
    """The operator commands, run with the environment of the parts."""

    def __init__(self, surroundings: Surroundings, console: Console) -> None:
        self._surroundings = surroundings
        self._console = console
        self.remark = ""

    async def migrate(self) -> None:
        """Bring the database to this version of the code."""
        await self._need("migrate")

    async def parts(self) -> list[Part]:
        """The table of parts; what was remarked beside it is kept."""
        text = await self._need("parts", "--json")
        parts, self.remark = read_parts(text), read_remark(text)
        return parts

    async def ensure_key(self, kept: str | None) -> str:
        """The kept API key when it still opens the API, else a new one with all scopes."""
        if kept and (await self._run("keys", "check", text=kept))[0] == 0:
            return kept
        answer = await self._need("keys", "ensure", "--name", "local", "--scopes", SCOPES, "--json")
        try:
            return str(json.loads(answer)["key"])
        except (ValueError, KeyError, TypeError) as error:
            raise StartError("`python -m producer_api keys ensure --json` gave no key.") from error

    async def _need(self, *arguments: str) -> str:
        code, answer = await self._run(*arguments)
        if code != 0:
            said = self._console.tail(LOG_NAME, 20)
            what = f"`python -m producer_api {' '.join(arguments)}` ended {how_it_ended(code)}"
            raise StartError(f"{what}. Its log is {self._console.log_path(LOG_NAME)}. Its last lines:\n{said}")
        return answer

    async def _run(self, *arguments: str, text: str = "") -> tuple[int, str]:
        """Exit code and standard output; standard error goes to the log."""
        shared = self._surroundings
        command = shim_command(shared.parent_reader, [sys.executable, "-m", "producer_api", *arguments])
        with TemporaryFile() as question, TemporaryFile() as answer:
            question.write(text.encode())
            question.seek(0)
            process = Process.start(
                command,
                shared.environment,
                (shared.parent_reader, shared.parts_lock),
                partial(self._console.relay, LOG_NAME),
                streams=(question, answer),
            )
            try:
                code = await process.finish()
            finally:
                process.kill()
            answer.seek(0)
            return code, answer.read().decode(errors="replace")
