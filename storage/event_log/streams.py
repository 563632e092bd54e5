"""Event logs as Redis Streams, whose entry ids are our ids on the wire.

Redis refuses an id that is not above the newest one of its stream. That refusal is the fence against stale attempts
and makes appending twice harmless, and a reader's position is a range that Redis understands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from schemas.events import Envelope, EventType
from storage.bell import BELL, NEWS, render_ends, render_news, tells_end
from storage.event_log.port import (
    ENTRIES_KEPT,
    LATEST_SECONDS,
    LATEST_TYPES,
    REPLACED_TYPES,
    Appended,
    Batch,
    begins_log,
    keep_seconds,
    leave_out_replaced,
    parse_position,
    resume,
)
from storage.redis import AsyncRedis, SyncRedis, redis_deadline, redis_faults

_FIELD = b"e"  # of each entry; the script names it as well
_STREAM = "stoker:events:"
# One command with few words: a command for each event, or a word for each value, costs a worker several times as much.
_APPEND = f"""
local jobs, at, lost, followed = tonumber(ARGV[1]), 3, {{}}, {{}}
for place = jobs + 1, #KEYS do
  redis.call('SET', KEYS[place], ARGV[at], 'EX', {LATEST_SECONDS})
  at = at + 1
end
for place = 1, jobs do
  local stream, news = KEYS[place], ARGV[at + 1]
  local count, seconds = string.match(ARGV[at], '(%d+) (%d+)')
  at = at + 2
  for _ = 1, tonumber(count) do
    local begins, id, line = string.match(ARGV[at], '^(%d) (%S+) (.*)$')
    at = at + 1
    local stored
    if begins == '1' then
      stored = redis.pcall('XADD', stream, 'MAXLEN', {ENTRIES_KEPT}, id, 'e', line)
    else
      stored = redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', {ENTRIES_KEPT}, id, 'e', line)
    end
    if not stored then
      lost[#lost + 1] = place
    elseif stored.err and not string.find(stored.err, 'equal or smaller than the target stream top item', 1, true) then
      return stored
    end
  end
  if seconds ~= '0' then
    redis.call('EXPIRE', stream, seconds)
  end
  if redis.call('PUBLISH', '{NEWS}' .. string.sub(stream, {len(_STREAM)} + 1), news) > 0 then
    followed[#followed + 1] = place
  end
end
if ARGV[2] ~= '' then
  redis.call('PUBLISH', '{BELL}', ARGV[2])
end
return {{lost, followed}}"""


class RedisEventLog:
    """One stream per job; each append rings the job's bell."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client = client
        self._append = client.register_script(_APPEND)

    async def append(self, job_id: str, envelopes: Sequence[Envelope]) -> None:
        """Append a job's next events."""
        await self.append_many([(job_id, envelopes)])

    async def append_many(self, batches: Sequence[Batch]) -> Appended:
        """Append the next events of many jobs in one round trip; a failure may have stored some of them."""
        latest = dict(one for job_id, envelopes in batches for one in _latest_lines(job_id, envelopes))
        keys = [*(_stream(job_id) for job_id, _ in batches), *latest]
        ended = render_ends([job_id for job_id, envelopes in batches if tells_end(envelopes)])
        said = [word for _, envelopes in batches for word in _words(envelopes)]
        async with redis_deadline():
            answer: Any = await self._append(keys=keys, args=[len(batches), ended, *latest.values(), *said])
        lost, followed = ({batches[place - 1][0] for place in places} for places in answer)
        return Appended(lost, followed)

    async def read(self, job_id: str, after: str | None) -> list[Envelope]:
        """Return what a reader at `after` has yet to see."""
        position = parse_position(after)
        async with redis_deadline():
            entries: Any = await self._client.xrange(_stream(job_id), min=f"({position.attempt}-{position.seq}")
        found = resume([Envelope.from_json(fields[_FIELD]) for _, fields in entries], position)
        if any(envelope.type in REPLACED_TYPES for envelope in found):
            return leave_out_replaced(found, await self.latest(job_id, EventType.PREVIEW))
        return found

    async def latest(self, job_id: str, event_type: EventType) -> Envelope | None:
        """Return the current attempt's newest event of one of LATEST_TYPES."""
        async with redis_deadline(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.get(_latest(job_id, event_type))
            pipeline.xrevrange(_stream(job_id), count=1)
            line, newest = await pipeline.execute()
        if line is None or not newest:
            return None
        envelope = Envelope.from_json(line)
        ((stream_id, _),) = newest
        return envelope if envelope.attempt == parse_position(stream_id.decode()).attempt else None

    async def erase(self, job_ids: Sequence[str]) -> None:
        """Forget these jobs."""
        if job_ids:
            async with redis_deadline():
                await self._client.unlink(*_keys(job_ids))


def erase_events(client: SyncRedis, job_ids: Sequence[str]) -> None:
    """Forget these jobs; for code without an event loop."""
    if job_ids:
        with redis_faults():
            client.unlink(*_keys(job_ids))


def _keys(job_ids: Sequence[str]) -> Iterator[str]:
    for job_id in job_ids:
        yield _stream(job_id)
        yield from (_latest(job_id, event_type) for event_type in LATEST_TYPES)


def _stream(job_id: str) -> str:
    return _STREAM + job_id


def _latest(job_id: str, event_type: EventType) -> str:
    return f"stoker:latest:{job_id}:{event_type}"


def _words(envelopes: Sequence[Envelope]) -> list[str | bytes]:
    """Return what the script is told of one job."""
    lines = [envelope.to_json() for envelope in envelopes]
    words: list[str | bytes] = [f"{len(lines)} {keep_seconds(envelopes) or 0}", render_news(lines)]
    for envelope, line in zip(envelopes, lines, strict=True):
        kept = _place_of(envelope) if envelope.type in REPLACED_TYPES else line
        words.append(b"%d %b %b" % (begins_log(envelope), envelope.id.encode(), kept))
    return words


def _latest_lines(job_id: str, envelopes: Sequence[Envelope]) -> list[tuple[str, bytes]]:
    return [
        (_latest(job_id, envelope.type), envelope.to_json()) for envelope in envelopes if envelope.type in LATEST_TYPES
    ]


def _place_of(envelope: Envelope) -> bytes:
    """Return what a log keeps of an event that a newer one replaces."""
    return replace(envelope, data={}, line=b"").to_json()
