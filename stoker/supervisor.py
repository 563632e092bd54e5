"""Brings the platform up, keeps it up, and takes it down: the whole of `make up`."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from stoker.console import Console
from stoker.errors import StartError
from stoker.keeper import Keeper, Surroundings
from stoker.parts import Part, check_needs
from stoker.producer import Producer
from stoker.services import redis_part, s3_part
from stoker.settings import Settings
from stoker.state import Run, StateFolder
from stoker.surroundings import HOST, is_given
from stoker.welcome import welcome

MOST_PARTS = 1000
PARENT_POLL_SECONDS = 1.0
STOPPED_WHILE_STARTING = 130  # what a shell says of a program ended by Ctrl-C


class Supervisor:
    """One run of the platform."""

    def __init__(self, settings: Settings, state: StateFolder, console: Console, surroundings: Surroundings) -> None:
        self._settings = settings
        self._state = state
        self._console = console
        self._surroundings = surroundings
        self._producer = Producer(surroundings, console)
        self._keepers: dict[str, Keeper] = {}
        self._is_up = False
        self._stopping = False
        self._failure: BaseException | None = None
        self._states: dict[str, str] = {}
        self._started_at = time.time()

    async def run(self, when_up: Callable[[], None]) -> int:
        """Start everything, call `when_up`, and go on until told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(MOST_PARTS))
        self._write_run()
        work = asyncio.create_task(self._work(when_up))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks
                loop.add_signal_handler(number, self._on_signal, work)
        if self._settings.under_make:
            loop.call_later(PARENT_POLL_SECONDS, self._watch_make, work, os.getppid())
        try:
            await work
        except asyncio.CancelledError:
            return 0 if self._is_up else STOPPED_WHILE_STARTING
        finally:
            await self._stop_all()
            if self._failure is not None:  # again and whole, below what the parts said as they stopped
                self._console.say(f"{self._failure}\n{self._producer.remark}")
        return 1

    async def _work(self, when_up: Callable[[], None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._launch(group, self._services())
                self._console.say("Reading the catalog and looking after the database.")
                parts = group.create_task(self._producer.parts())
                await self._producer.migrate()
                key = await self._producer.ensure_key(self._state.read_client().get("STOKER_API_KEY"))
                check_needs(await parts)
                self._launch(group, await parts)
                for keeper in self._keepers.values():
                    await keeper.ready.wait()
                self._is_up = True
                text = self._welcome(key)
                self._console.say(self._producer.remark)  # below all that the parts said while they started
                self._console.say(f"Everything is ready ({time.time() - self._started_at:.1f} s).")
                self._console.announce(text)
                when_up()
        except* StartError as errors:
            self._failure = errors.exceptions[0]
            self._console.say(str(self._failure).partition(" Its log is ")[0])

    def _services(self) -> Iterator[Part]:
        ports, data = self._surroundings.ports, self._state.data
        if not is_given(self._settings, "redis"):
            yield redis_part(data / "redis", ports["redis"], self._state.secrets().redis_password)
        if not is_given(self._settings, "s3"):
            yield s3_part(data / "s3", ports["s3"], self._surroundings.environment)

    def _launch(self, group: asyncio.TaskGroup, parts: Iterable[Part]) -> None:
        for part in parts:
            ready_file = self._state.ready_file(part.name)
            keeper = Keeper(part, self._surroundings, self._console, ready_file=ready_file, on_change=self._note)
            self._keepers[part.name] = keeper
            self._note(part.name, "waiting")
            self._console.name_width = max(self._console.name_width, len(part.name))
            group.create_task(self._keep(keeper))

    async def _keep(self, keeper: Keeper) -> None:
        for need in keeper.part.needs:
            if need in self._keepers:  # else it is a service that the user brought
                await self._keepers[need].ready.wait()
        await keeper.keep_running()

    def _welcome(self, key: str) -> str:
        environment, ports = self._surroundings.environment, self._surroundings.ports
        flower_login = quote(environment["STOKER_FLOWER_BASIC_AUTH"], safe=":")
        client = {
            "STOKER_URL": f"http://{HOST}:{ports['api']}",
            "STOKER_API_KEY": key,
            "STOKER_FLOWER_URL": f"http://{flower_login}@{HOST}:{ports['flower']}",
        }
        self._state.write_client(client)
        return welcome(client, self._state.shown / "client.env", Path(environment["STOKER_CATALOG"]))

    def _note(self, part: str, does: str) -> None:
        self._states[part] = does
        self._write_run()

    def _write_run(self) -> None:
        ports = dict(self._surroundings.ports)
        url = f"http://{HOST}:{ports['api']}"
        self._state.write_run(Run(os.getpid(), self._started_at, url, ports, self._states))

    def _on_signal(self, work: asyncio.Task[None]) -> None:
        if self._stopping:
            for keeper in self._keepers.values():
                keeper.kill()
        self._stopping = True
        work.cancel()

    def _watch_make(self, work: asyncio.Task[None], make: int) -> None:
        """Stop when `make` is gone: killing it is killing `make up`."""
        if os.getppid() != make:
            work.cancel()
        else:
            asyncio.get_running_loop().call_later(PARENT_POLL_SECONDS, self._watch_make, work, make)

    async def _stop_all(self) -> None:
        """Stop each part after those that need it."""
        self._stopping = True
        self._console.say("Stopping; a second Ctrl-C kills what is left.")
        left = dict(self._keepers)
        while left:
            needed = {need for keeper in left.values() for need in keeper.part.needs}
            wave = [left.pop(name) for name in list(left) if name not in needed]
            await asyncio.gather(*(keeper.stop() for keeper in wave))
        self._state.write_run(None)
        self._console.say("Everything has stopped.")
