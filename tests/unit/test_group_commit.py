"""Group commit: who leads, who shares, who fails; with commits that the test holds open."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from schemas.errors import DatabaseFaultError
from storage.group_commit import GROUP_LIMIT, GroupCommit, Operation

PATIENCE_SECONDS = 60.0


def double(_connection: None, numbers: Sequence[int]) -> list[int]:
    return [2 * number for number in numbers]


def negate(_connection: None, numbers: Sequence[int]) -> list[int]:
    return [-number for number in numbers]


class Ledger:
    """Commits that can be held open, made to fail, and looked at afterwards."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.threads: list[str] = []
        self.bad: dict[int, Exception] = {}
        self.begun = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def commit(self, work: list[tuple[Operation, list[Any]]]) -> list[Sequence[Any]]:
        numbers = [number for _, arguments in work for number in arguments]
        self.groups.append(numbers)
        self.threads.append(threading.current_thread().name)
        self.begun.release()
        assert self.free.wait(PATIENCE_SECONDS)
        for number in numbers:
            if number in self.bad:
                raise self.bad[number]
        return [operation(None, arguments) for operation, arguments in work]

    def wait_for_commit(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def group(ledger: Ledger) -> Iterator[GroupCommit]:
    group = GroupCommit(ledger.commit, PATIENCE_SECONDS)
    yield group
    ledger.free.set()
    group.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(300) as pool:
        yield pool


def queue_behind(
    group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor, numbers: Sequence[int], first: int = 0
) -> tuple[Future[int], list[Future[int]]]:
    """Hold a commit open, with others waiting behind it in this order."""
    ledger.free.clear()
    leading = threads.submit(group.run, double, first)
    ledger.wait_for_commit()
    waiting = []
    for place, number in enumerate(numbers, start=1):
        waiting.append(threads.submit(group.run, double, number))
        while len(group._waiting) < place:  # noqa: SLF001 - nothing else says that a write is in the line
            threading.Event().wait(0.001)
    return leading, waiting


def test_who_finds_the_door_free_goes_alone_and_at_once(group: GroupCommit, ledger: Ledger) -> None:
    assert [group.run(double, number) for number in (1, 2)] == [2, 4]
    assert ledger.groups == [[1], [2]]
    assert ledger.threads == [threading.current_thread().name] * 2


def test_all_who_wait_share_the_next_commit(group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor) -> None:
    leading, waiting = queue_behind(group, ledger, threads, range(1, 11))
    ledger.free.set()
    assert leading.result() == 0
    assert [one.result() for one in waiting] == [2 * number for number in range(1, 11)]
    assert ledger.groups == [[0], list(range(1, 11))]


def test_a_group_has_a_limit(group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor) -> None:
    _, waiting = queue_behind(group, ledger, threads, range(1, GROUP_LIMIT + 3))
    ledger.free.set()
    assert [one.result() for one in waiting] == [2 * number for number in range(1, GROUP_LIMIT + 3)]
    assert [len(numbers) for numbers in ledger.groups] == [1, GROUP_LIMIT, 2]


def test_operations_of_a_group_get_their_own_arguments(
    group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor
) -> None:
    leading, waiting = queue_behind(group, ledger, threads, [1])
    negated = [threads.submit(group.run, negate, number) for number in (2, 3)]
    ledger.free.set()
    assert [one.result() for one in (leading, *waiting, *negated)] == [0, 2, -2, -3]


def test_nobody_waits_for_the_next_groups_commit(
    group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor
) -> None:
    """Those whose group is through go on while the next one is still being written."""
    leading, waiting = queue_behind(group, ledger, threads, [1, 2, 3])
    blocked = threading.Event()
    real = ledger.commit

    def commit(work: list[tuple[Operation, list[Any]]]) -> list[Sequence[Any]]:
        if 9 in work[0][1]:
            assert blocked.wait(PATIENCE_SECONDS)
        answers = real(work)
        if 1 in work[0][1]:
            late.append(threads.submit(group.run, double, 9))
            while not group._waiting:  # noqa: SLF001 - as above
                threading.Event().wait(0.001)
        return answers

    late: list[Future[int]] = []
    group._commit = commit  # noqa: SLF001 - a commit that knows about the next one
    ledger.free.set()
    assert [one.result(PATIENCE_SECONDS) for one in (leading, *waiting)] == [0, 2, 4, 6]
    assert not late[0].done()
    blocked.set()
    assert late[0].result(PATIENCE_SECONDS) == 18


def test_one_bad_write_fails_alone(group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor) -> None:
    ledger.bad[2] = ValueError("two")
    _, waiting = queue_behind(group, ledger, threads, [1, 2, 3])
    ledger.free.set()
    assert [waiting[0].result(), waiting[2].result()] == [2, 6]
    with pytest.raises(ValueError, match="two"):
        waiting[1].result()
    assert ledger.groups == [[0], [1, 2, 3], [1], [2], [3]]


def test_a_fault_fails_all_who_wait_at_once(group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor) -> None:
    ledger.bad[0] = DatabaseFaultError("locked")
    leading, waiting = queue_behind(group, ledger, threads, range(1, GROUP_LIMIT + 10))
    ledger.free.set()
    for one in (leading, *waiting):
        with pytest.raises(DatabaseFaultError, match="locked"):
            one.result(PATIENCE_SECONDS)
    assert ledger.groups == [[0]]
    assert group.run(double, 5) == 10


def test_a_fault_on_the_way_through_a_broken_group_fails_the_rest(
    group: GroupCommit, ledger: Ledger, threads: ThreadPoolExecutor
) -> None:
    ledger.bad = {1: ValueError("one"), 3: DatabaseFaultError("gone")}
    _, waiting = queue_behind(group, ledger, threads, [1, 2, 3, 4])
    ledger.free.set()
    outcomes = [type(one.exception(PATIENCE_SECONDS)) for one in waiting]
    assert outcomes == [ValueError, type(None), DatabaseFaultError, DatabaseFaultError]
    assert ledger.groups == [[0], [1, 2, 3, 4], [1], [2], [3]]


def test_who_waits_too_long_is_told_so_and_never_written(ledger: Ledger, threads: ThreadPoolExecutor) -> None:
    group = GroupCommit(ledger.commit, answer_seconds=0.05)
    leading, waiting = queue_behind(group, ledger, threads, [1, 2])
    for one in waiting:
        with pytest.raises(DatabaseFaultError, match=r"did not answer within 0\.05 seconds"):
            one.result(PATIENCE_SECONDS)
    ledger.free.set()
    assert leading.result() == 0  # its own thread leads, so it has its answer whatever the time
    group._answer_seconds = PATIENCE_SECONDS  # noqa: SLF001 - this one is waited for
    assert group.run(double, 7) == 14
    assert ledger.groups == [[0], [7]]
    group.close()


async def test_tasks_share_commits_and_the_loop_goes_on(group: GroupCommit, ledger: Ledger) -> None:
    ledger.free.clear()
    first = asyncio.create_task(group.arun(double, 0))
    await asyncio.to_thread(ledger.wait_for_commit)
    rest = [asyncio.create_task(group.arun(double, number)) for number in range(1, 6)]
    await asyncio.sleep(0)
    assert not first.done()
    ledger.free.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10]
    assert ledger.groups == [[0], [1, 2, 3, 4, 5]]
    assert set(ledger.threads) == {"sql-write_0"}


async def test_a_canceled_task_takes_nothing_along(group: GroupCommit, ledger: Ledger) -> None:
    ledger.free.clear()
    leaving = asyncio.create_task(group.arun(double, 0))
    await asyncio.to_thread(ledger.wait_for_commit)
    waiting = [asyncio.create_task(group.arun(double, number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    for task in (leaving, waiting[1]):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    ledger.free.set()
    assert [await waiting[0], await waiting[2]] == [2, 6]
    assert ledger.groups == [[0], [1, 2, 3]]


async def test_a_task_that_waits_too_long_is_told_so(ledger: Ledger) -> None:
    group = GroupCommit(ledger.commit, answer_seconds=0.05)
    ledger.free.clear()
    leading = asyncio.create_task(group.arun(double, 0))
    await asyncio.to_thread(ledger.wait_for_commit)
    waiting = asyncio.create_task(group.arun(double, 1))
    for task in (leading, waiting):
        with pytest.raises(DatabaseFaultError, match="did not answer"):
            await task
    ledger.free.set()
    group._answer_seconds = PATIENCE_SECONDS  # noqa: SLF001 - this one is waited for
    assert await group.arun(double, 7) == 14
    assert ledger.groups == [[0], [7]]
    group.close()


async def test_what_may_come_later_goes_alone_when_nobody_else_waits(group: GroupCommit, ledger: Ledger) -> None:
    ledger.free.clear()
    leading = asyncio.create_task(group.arun(double, 0))
    await asyncio.to_thread(ledger.wait_for_commit)
    later = [asyncio.create_task(group.arun(double, number, later=True)) for number in (1, 2)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(group.arun(double, 3))
    await asyncio.sleep(0)
    ledger.free.set()
    assert await asyncio.gather(leading, *later, waiting) == [0, 2, 4, 6]
    assert ledger.groups == [[0], [3], [1], [2]]


async def test_what_may_come_later_shares_a_commit_when_it_has_waited_for_long(
    group: GroupCommit, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.group_commit.LATER_SECONDS", 0)
    ledger.free.clear()
    leading = asyncio.create_task(group.arun(double, 0))
    await asyncio.to_thread(ledger.wait_for_commit)
    later = asyncio.create_task(group.arun(double, 1, later=True))
    waiting = asyncio.create_task(group.arun(double, 2))
    await asyncio.sleep(0)
    ledger.free.set()
    assert [await leading, await later, await waiting] == [0, 2, 4]
    assert ledger.groups == [[0], [2, 1]]


async def test_what_may_come_later_hears_of_a_sick_database_with_all_others(
    group: GroupCommit, ledger: Ledger
) -> None:
    ledger.free.clear()
    ledger.bad = {0: DatabaseFaultError("sick")}
    tasks = [asyncio.create_task(group.arun(double, 0))]
    await asyncio.to_thread(ledger.wait_for_commit)
    tasks += [asyncio.create_task(group.arun(double, number, later=number > 1)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    ledger.free.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["sick"] * 4
    assert ledger.groups == [[0]]


async def test_a_task_gets_its_own_error(group: GroupCommit, ledger: Ledger) -> None:
    ledger.bad = {1: ValueError("one")}
    answers = await asyncio.gather(*(group.arun(double, number) for number in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["0", "one", "4"]


async def test_threads_and_tasks_at_once_lose_nothing(group: GroupCommit, threads: ThreadPoolExecutor) -> None:
    def run_many(first: int) -> list[int]:
        return [group.run(double, number) for number in range(first, first + 50)]

    async def arun_many(first: int) -> list[int]:
        return [await group.arun(negate, number) for number in range(first, first + 50)]

    from_threads = [threads.submit(run_many, 100 * turn) for turn in range(8)]
    from_tasks = await asyncio.gather(*(arun_many(100 * turn) for turn in range(8)))
    for turn in range(8):
        numbers = range(100 * turn, 100 * turn + 50)
        assert from_threads[turn].result(PATIENCE_SECONDS) == [2 * number for number in numbers]
        assert from_tasks[turn] == [-number for number in numbers]
