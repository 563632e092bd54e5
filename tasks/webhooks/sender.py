"""The sender: takes what is due from SQL, sends it side by side, writes down what came of it.

It lives in an event loop of its own. Rows are claimed by lease only when they can be sent at once, so a sender that
dies holds little, and for a short time.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import suppress
from functools import partial

from schemas.errors import FaultError, UrlRefusedError
from schemas.webhooks import BATCH_EVENTS
from storage.database import Database
from storage.objects.port import ObjectStore
from storage.webhooks import secrets, sending
from storage.webhooks.deliveries import TEST_EVENT, Delivery
from storage.webhooks.secrets import Secrets
from storage.webhooks.sending import Context, Result, Wish
from tasks.addresses import read_rules
from tasks.egress import Egress, Reply, UnreachableError, is_success
from tasks.logs import get_logger
from tasks.settings import TaskSettings
from tasks.webhooks import schedule
from tasks.webhooks.message import render_batch, render_job, render_test
from tasks.webhooks.receivers import Receivers
from tasks.webhooks.signing import sign

POLL_SECONDS = 1.0
"""How soon something is found due that nobody gave a hint of."""
PAUSE_SECONDS = 0.01
"""Between two looks at SQL while there is much to do, so that many places are filled at once."""
SPARE_SECONDS = 10.0
"""How much longer than an attempt a lease lasts: rendering before it and recording after it."""
RECORD_TRIES_SECONDS = 0.5
ANSWER_BYTES = 16 * 1024
"""So much of an answer is read, so that the connection can be used again; nothing of it is kept."""
GONE = 410

log = get_logger(__name__)


class UndeliverableError(Exception):
    """There is nothing left to send, or nobody to send it to; no later attempt would change that."""


class Sender:
    """Sends every delivery that is due, from a thread and event loop of its own."""

    def __init__(self, database: Database, objects: ObjectStore, settings: TaskSettings) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._egress = Egress(read_rules(settings), ca_file=settings.egress_ca_file)
        self._delays = schedule.read_delays(settings.webhook_delays)
        self._receivers = Receivers()
        self._sending: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def poke(self) -> None:
        """Say that there may be something due, from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.set)

    def stop(self, seconds: float) -> None:
        """Claim nothing more and wait for what is on its way; what takes longer is sent again by the next sender."""
        self._is_stopping = True
        self.poke()
        self._thread.join(seconds)

    def hurry(self) -> None:
        """Claim nothing more and drop what is on its way, from any thread; the next sender sends it again."""
        self._is_stopping = True
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for task in self._sending:
            task.cancel()
        self._news.set()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        while not self._is_stopping:
            self._news.clear()
            try:
                await self._fill_places()
            except FaultError as fault:
                log.warning("Webhooks wait for a sick backend.", fault=str(fault))
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("Webhooks could not be claimed; the next look tries again.")
                await asyncio.sleep(POLL_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            if self._sending:
                await asyncio.sleep(PAUSE_SECONDS)
        if self._sending:
            await asyncio.wait(self._sending)
        await self._egress.aclose()

    async def _fill_places(self) -> None:
        """Claim as much as can be sent now, and send it."""
        places = self._receivers.places(await self._database.aread(sending.due_origins))
        if not places:
            return
        lease_seconds = self._settings.webhook_timeout_seconds + SPARE_SECONDS
        claimed = await self._database.awrite(sending.claim, Wish(places, lease_seconds))
        for delivery in claimed:
            self._receivers.begin(delivery.origin)
        try:
            context = await self._read(claimed)
        except BaseException:
            for delivery in claimed:
                self._receivers.end(delivery.origin, took_it=True)
            raise
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery, context))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _read(self, claimed: list[Delivery]) -> Context:
        context = await self._database.aread(partial(sending.context, claimed=claimed))
        lacking = {one.caller_id for one in claimed if one.endpoint_id is None} - context.secrets.keys()
        if not lacking:
            return context
        await self._database.atransact(partial(secrets.ensure, caller_ids=lacking))
        return await self._database.aread(partial(sending.context, claimed=claimed))

    async def _deliver(self, delivery: Delivery, context: Context) -> None:
        quiet_seconds, took_it = None, False
        try:
            result, quiet_seconds = await self._attempt(delivery, context)
            took_it = result.is_delivered
            await self._record(result)
        except Exception:
            log.exception("A webhook could not be sent; it is tried again.", webhook_id=delivery.id)
        finally:
            self._receivers.end(delivery.origin, took_it=took_it, quiet_seconds=quiet_seconds)
            self._news.set()

    async def _attempt(self, delivery: Delivery, context: Context) -> tuple[Result, float | None]:
        began_at = time.perf_counter()
        reply, error = None, None
        try:
            reply = await self._send(delivery, context)
        except UndeliverableError as undeliverable:
            return Result(delivery, None, 0.0, str(undeliverable)), None
        except (UnreachableError, UrlRefusedError) as unreachable:
            error = str(unreachable)
        latency_ms = round((time.perf_counter() - began_at) * 1000, 1)
        return self._judge(delivery, context, reply, error, latency_ms)

    def _judge(
        self, delivery: Delivery, context: Context, reply: Reply | None, error: str | None, latency_ms: float
    ) -> tuple[Result, float | None]:
        status = reply.status if reply else None
        is_delivered = status is not None and is_success(status)
        is_gone = status == GONE
        asked = schedule.asked_delay(status, reply.headers.get("retry-after") if reply else None)
        delay = schedule.next_delay(self._delays, delivery.tries + 1, asked, chance=random.random())  # noqa: S311 - jitter
        endpoint = context.endpoints.get(delivery.endpoint_id or "")
        result = Result(
            delivery,
            status,
            latency_ms,
            error or (None if is_delivered else f"It answered with status {status}."),
            is_delivered=is_delivered,
            next_in_seconds=None if is_delivered or is_gone else delay,
            is_gone=is_gone,
            was_failing=endpoint is not None and endpoint.failing_since is not None,
        )
        return result, asked

    async def _send(self, delivery: Delivery, context: Context) -> Reply:
        url, signers = _address(delivery, context)
        target = self._egress.rules.check(url)
        body = self._render(delivery, context)
        now = time.time()
        headers = sign(signers.signing(now), delivery.id, int(now), body) | {"content-type": "application/json"}
        seconds = self._settings.webhook_timeout_seconds
        return await self._egress.send("POST", target, headers, body, seconds=seconds, max_bytes=ANSWER_BYTES)

    def _render(self, delivery: Delivery, context: Context) -> bytes:
        if delivery.event == TEST_EVENT:
            return render_test(delivery)
        if delivery.event in BATCH_EVENTS:
            return self._render_batch(delivery, context)
        row = context.jobs.get(delivery.job_id or "")
        if row is None:
            raise UndeliverableError("The job is no longer kept.")
        given = context.inputs.get(row.id)
        return render_job(delivery, row, given, self._objects, self._settings.presign_seconds)

    def _render_batch(self, delivery: Delivery, context: Context) -> bytes:
        row = context.batches.get(delivery.job_id or "")
        if row is None:
            raise UndeliverableError("The batch is no longer kept.")
        return render_batch(delivery, row)

    async def _record(self, result: Result) -> None:
        """Write a result down, however long SQL is sick: until the lease is over nobody else sends it."""
        deadline = time.monotonic() + SPARE_SECONDS
        while True:
            try:
                await self._database.awrite(sending.record, result)
            except FaultError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(RECORD_TRIES_SECONDS)
            else:
                return


def _address(delivery: Delivery, context: Context) -> tuple[str, Secrets]:
    """Return where a delivery goes today and what signs it."""
    if delivery.endpoint_id is None:
        return delivery.url or "", context.secrets[delivery.caller_id]
    endpoint = context.endpoints.get(delivery.endpoint_id)
    if endpoint is None:
        raise UndeliverableError("The endpoint was deleted.")
    if not endpoint.enabled:
        raise UndeliverableError("The endpoint is disabled.")
    return endpoint.url, endpoint.secrets
