"""Everything that is broken on purpose, by name."""

from tests.chaos.faults.broker import Duplicates, FlushAll, RedisKill
from tests.chaos.faults.callers import CancelRace, ExpirePaused, Poison
from tests.chaos.faults.fault import Fault
from tests.chaos.faults.front import ApiKillBeforeHint, ApiKillBeforeReply
from tests.chaos.faults.keepers import KillBeat, KillMaintenance
from tests.chaos.faults.stores import DatabaseLocked, ObjectStoreErrors
from tests.chaos.faults.webhooks import WebhookDatabaseLocked, WebhookDrop, WebhookFlush, WebhookSenderKill
from tests.chaos.faults.workers import KillAllWorkers, KillWorker, RollingTerm, StopWorker

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        KillWorker,
        KillAllWorkers,
        StopWorker,
        RollingTerm,
        Poison,
        RedisKill,
        FlushAll,
        Duplicates,
        ApiKillBeforeHint,
        ApiKillBeforeReply,
        ObjectStoreErrors,
        DatabaseLocked,
        KillMaintenance,
        KillBeat,
        CancelRace,
        ExpirePaused,
        WebhookSenderKill,
        WebhookDrop,
        WebhookFlush,
        WebhookDatabaseLocked,
    )
}

__all__ = ["FAULTS", "Fault"]
