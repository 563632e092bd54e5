"""Which hints are missing and which jobs wait in the wrong place, decided from one look."""

from dataclasses import replace
from typing import Any

from schemas.catalog import Catalog
from storage.queues import Depth, QueueRow
from storage.workers import WorkerRow
from tasks.balance import NARROWEST, Need, Sight, hints_to_send, moves_to_make

HERE, THERE = "text.echo.gpu0", "text.echo.gpu1"


def queue(name: str, *, paused: bool = False) -> QueueRow:
    kind, model, device = name.split(".")
    return QueueRow(name, kind, model, device, int(paused))


def worker(queue_name: str = HERE, **changes: Any) -> WorkerRow:
    _, model, device = queue_name.split(".")
    row = WorkerRow(f"w-{queue_name}", model, device, queue_name, "host", 1, "ready", 8, 0, 0, 0.0, 0.0, 9e9, None)
    return replace(row, **changes)


def sight(*workers: WorkerRow, queues: tuple[str, ...] = (HERE,), **depths: Depth) -> Sight:
    names = {"here": HERE, "there": THERE}
    known = {name: Depth() for name in queues} | {names[short]: depth for short, depth in depths.items()}
    return Sight([queue(name) for name in {**dict.fromkeys(queues), **known}], list(workers), known)


def catalog(*devices: str) -> Catalog:
    fields = {"alias": "echo", "kind": "text", "engine": "fake", "source": "builtin", "devices": list(devices)}
    return Catalog.model_validate({"models": {"echo": fields}} if devices else {"models": {}})


def needs(seen: Sight, **depths: int) -> list[Need]:
    return list(hints_to_send(seen, {HERE: depths.get("here", 0), THERE: depths.get("there", 0)}))


def test_a_queue_with_work_gets_two_hints_for_each_worker_and_no_more_than_jobs() -> None:
    assert needs(sight(worker(), here=Depth(claimable=1))) == [Need(HERE, 16, 1)]
    assert needs(sight(worker(), here=Depth(claimable=500))) == [Need(HERE, 16, 2)]
    assert needs(sight(worker(), worker(id="w2"), here=Depth(claimable=500))) == [Need(HERE, 32, 4)]


def test_hints_that_wait_already_count() -> None:
    assert needs(sight(worker(), here=Depth(claimable=5)), here=1) == [Need(HERE, 16, 1)]
    assert needs(sight(worker(), here=Depth(claimable=5)), here=2) == []


def test_a_queue_without_a_worker_has_hints_waiting_for_one() -> None:
    assert needs(sight(here=Depth(claimable=500))) == [Need(HERE, NARROWEST, 2)]


def test_a_paused_queue_gets_none() -> None:
    seen = Sight([queue(HERE, paused=True)], [worker()], {})
    assert needs(seen) == []


def test_suspects_get_a_hint_of_their_own() -> None:
    assert needs(sight(worker(), here=Depth(suspects=7))) == [Need(HERE, 16, 1, suspects=True)]


def test_an_idle_worker_is_told_of_its_siblings_backlog() -> None:
    seen = sight(worker(), queues=(HERE, THERE), there=Depth(claimable=5))
    assert Need(HERE, 16, 1) in needs(seen, there=5)


def test_a_busy_or_loading_worker_is_left_alone() -> None:
    for changes in ({"in_flight": 1}, {"state": "loading"}, {"drain_requested": 1}):
        seen = sight(worker(**changes), queues=(HERE, THERE), there=Depth(claimable=5))
        assert [need.queue for need in needs(seen, there=5)] == []


def test_jobs_move_to_a_placement_that_has_a_worker() -> None:
    seen = sight(worker(THERE), queues=(HERE, THERE), here=Depth(claimable=1))
    assert list(moves_to_make(seen, catalog("gpu0", "gpu1"))) == [(HERE, THERE)]


def test_suspects_move_as_well() -> None:
    seen = sight(worker(THERE), queues=(HERE, THERE), here=Depth(suspects=1))
    assert list(moves_to_make(seen, catalog("gpu0", "gpu1"))) == [(HERE, THERE)]


def test_jobs_stay_where_a_worker_lives_and_where_nobody_does() -> None:
    backlog, both = Depth(claimable=9), (HERE, THERE)
    for workers in ((worker(), worker(THERE)), ()):
        seen = sight(*workers, queues=both, here=backlog)
        assert list(moves_to_make(seen, catalog("gpu0", "gpu1"))) == []
    assert list(moves_to_make(sight(here=backlog), catalog("gpu0"))) == []


def test_a_worker_that_drains_does_not_count() -> None:
    seen = sight(worker(state="draining"), worker(THERE), queues=(HERE, THERE), here=Depth(claimable=1))
    assert list(moves_to_make(seen, catalog("gpu0", "gpu1"))) == [(HERE, THERE)]


def test_jobs_do_not_move_into_or_out_of_a_paused_queue() -> None:
    names = [queue(HERE), queue(THERE, paused=True)]
    assert list(moves_to_make(Sight(names, [worker(THERE)], {HERE: Depth(1)}), catalog("gpu0", "gpu1"))) == []
    assert list(moves_to_make(Sight(names, [worker(THERE)], {}), catalog("gpu0", "gpu1"))) == []


def test_jobs_leave_a_device_that_the_catalog_lost_even_for_one_without_a_worker() -> None:
    seen = sight(queues=(HERE, THERE), here=Depth(claimable=1))
    assert list(moves_to_make(seen, catalog("gpu1"))) == [(HERE, THERE)]


def test_jobs_of_a_removed_model_are_not_moved() -> None:
    seen = sight(worker(THERE), queues=(HERE, THERE), here=Depth(claimable=1))
    assert list(moves_to_make(seen, catalog())) == []
