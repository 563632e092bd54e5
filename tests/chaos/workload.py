"""The jobs of a run: mixed in kind, length and priority, some of them told to misbehave; the seed decides all."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from schemas.base import JsonObject
from schemas.jobs import Status
from tests.chaos.history import Expectation, digest
from workers.engines.fake_output import expected_artifacts, expected_output

TEXT, IMAGE, EMBEDDING = "text", "image", "embedding"
MODELS = {TEXT: "mill", IMAGE: "brush", EMBEDDING: "atlas"}
DEVICES = {TEXT: ("cpu0", "cpu1"), IMAGE: ("cpu0",), EMBEDDING: ("cpu0",)}
QUEUES = {kind: [f"{kind}.{model}.{device}" for device in DEVICES[kind]] for kind, model in MODELS.items()}
SLOTS = 64
PADDING_CHARACTERS = 20_000

CATALOG = "".join(
    f"""
[models.{model}]
kind = "{kind}"
engine = "fake"
source = "fake"
devices = {list(DEVICES[kind])}
max_in_flight = {SLOTS}
context_length = 8192
timeout_seconds = 60
options = {{ decode_step_ms = 4.0, step_slope_ms = 0.05, prefill_ms_per_token = 0.01 }}
"""
    for kind, model in MODELS.items()
)


@dataclass(frozen=True)
class Plan:
    """One job to be: what is sent, what must come of it, what the client does meanwhile."""

    body: JsonObject
    expected: Expectation
    cancel_after: float | None = None


def plan_job(
    kind: str, name: str, orders: str, policy: JsonObject | None = None, expected: Expectation | None = None
) -> Plan:
    """Lay out a job that follows the fake engine's `orders`."""
    given = _input(kind, f"{orders} job {name}".strip())
    body = {"kind": kind, "model": MODELS[kind], "input": given, "policy": policy or {}}
    files = {name: hashlib.sha256(data).hexdigest() for name, data in expected_artifacts(kind, given).items()}
    output = digest(expected_output(kind, given))
    return Plan(body, replace(expected or Expectation(), output=output, files=files))


def plan_jobs(seed: int) -> Iterator[Plan]:
    """Plan jobs without end."""
    chance = random.Random(f"jobs of {seed}")
    number = 0
    while True:
        number += 1
        yield _plan(chance, f"{seed}/{number}")


def _plan(chance: random.Random, name: str) -> Plan:
    kind = chance.choices([TEXT, IMAGE, EMBEDDING], [6, 2, 2])[0]
    policy: JsonObject = {"priority": chance.choices(["high", "normal", "low"], [1, 4, 1])[0]}
    orders = f"fake:sleep-ms={_sleep_ms(chance, kind)}"
    if kind == TEXT:
        orders += f" fake:tokens={chance.randint(1, 40)}"
    temper = chance.choices(list(TEMPERS), [weight for weight, _ in TEMPERS.values()])[0]
    if temper == "large":
        orders += " " + "x" * PADDING_CHARACTERS
    plan = plan_job(kind, name, f"{orders} {_words(chance, temper)}", policy, TEMPERS[temper][1])
    if temper == "hangs":
        return replace(plan, body=plan.body | {"policy": policy | {"timeout_seconds": 4}})
    if temper == "fails":
        return replace(plan, body=plan.body | {"policy": policy | {"max_attempts": chance.randint(1, 2)}})
    return replace(plan, cancel_after=_moment(chance)) if temper == "canceled" else plan


def _sleep_ms(chance: random.Random, kind: str) -> int:
    """Return how long a job takes; where suspects gather, jobs longer than a lease would only delay them."""
    shortest, longest = chance.choices([(0, 100), (100, 800), (1000, 3000)], [5, 4, 1.5 * (kind != IMAGE)])[0]
    return chance.randint(shortest, longest)


def _moment(chance: random.Random) -> float:
    """Return a delay that meets a job anywhere between its row and its end."""
    return chance.choice([0, chance.uniform(0, 0.3), chance.uniform(0, 2)])


def _words(chance: random.Random, temper: str) -> str:
    words = {"stumbles": f"fake:fail-times={chance.randint(1, 2)}", "fails": "fake:fail"}
    words |= {"refused": "fake:refuse", "hangs": "fake:hang"}
    return words.get(temper, "")


def _failing(code: str) -> Expectation:
    return Expectation(frozenset({Status.FAILED}), frozenset({code}))


CANCELED = Expectation(frozenset({Status.CANCELED, Status.SUCCEEDED}))
TEMPERS: dict[str, tuple[int, Expectation]] = {
    "plain": (76, Expectation()),
    "canceled": (9, CANCELED),
    "stumbles": (6, Expectation()),
    "fails": (3, _failing("engine_error")),
    "refused": (2, _failing("engine_refused")),
    "hangs": (1, _failing("timeout")),
    "large": (3, Expectation()),
}
"""How often a job is of which temper, and how it must end."""


def _input(kind: str, prompt: str) -> JsonObject:
    if kind == TEXT:
        return {"prompt": prompt, "max_tokens": 64}
    if kind == IMAGE:
        size: JsonObject = {"width": 16, "height": 16, "steps": 3}
        return {"prompt": prompt[:10_000], **size, "n": 1 + len(prompt) % 2, "seed": len(prompt)}  # else one is chosen
    return {"texts": [prompt, f"{prompt} again"]}
