"""What every part is told: ports, addresses and keys; what the user gave in STOKER_* variables wins."""

from collections.abc import Callable

from stoker.errors import StartError
from stoker.ports import free_port, is_free
from stoker.settings import Settings
from stoker.state import StateFolder

PREFERRED_PORTS = {"api": 8000, "flower": 5555, "redis": 16379, "s3": 19000}
PORTS = range(1, 65_536)
HOST = "127.0.0.1"
BUCKET = "stoker"


def choose_ports(settings: Settings, say: Callable[[str], None]) -> dict[str, int]:
    """A free port for each server; a port that the user asked for is taken or refused, never replaced."""
    variables = {name: f"STOKER_{name.upper()}_PORT" for name in PREFERRED_PORTS}
    asked = {name: variable for name, variable in variables.items() if variable in settings.given}
    ports = {name: _asked_port(variable, settings.given[variable]) for name, variable in asked.items()}
    for name, preferred in PREFERRED_PORTS.items():
        if name in asked:
            continue
        ports[name] = free_port(preferred, besides=ports.values())
        if ports[name] != preferred and not is_given(settings, name):
            say(f"Port {preferred} is taken, so {name} listens on {ports[name]}.")
    return ports


def is_given(settings: Settings, service: str) -> bool:
    """Whether the user brought this service, so that we start none."""
    return {"redis": "STOKER_REDIS_URL", "s3": "STOKER_S3_ENDPOINT"}.get(service) in settings.given


def part_environment(settings: Settings, state: StateFolder, ports: dict[str, int]) -> dict[str, str]:
    """The environment of every part."""
    secrets = state.secrets()
    endpoint = settings.given.get("STOKER_S3_ENDPOINT", f"http://{HOST}:{ports['s3']}")
    if is_given(settings, "s3"):
        _require(settings, "STOKER_S3_ENDPOINT", ("STOKER_S3_ACCESS_KEY", "STOKER_S3_SECRET_KEY"))
    # One thread per worker: with two, small models ran 5 to 30 times slower on a busy machine.
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    chosen = {
        "STOKER_ENVIRONMENT": "development",
        "STOKER_CATALOG": "models.toml",
        "STOKER_DATABASE_URL": f"sqlite+pysqlite:///{state.data / 'stoker.db'}",
        "STOKER_REDIS_URL": f"redis://:{secrets.redis_password}@{HOST}:{ports['redis']}/0",
        "STOKER_S3_ENDPOINT": endpoint,
        "STOKER_S3_PUBLIC_ENDPOINT": endpoint,
        "STOKER_S3_ACCESS_KEY": secrets.s3_access_key,
        "STOKER_S3_SECRET_KEY": secrets.s3_secret_key,
        "STOKER_S3_BUCKET": BUCKET,
        "STOKER_WEIGHTS_DIR": str(state.path / "weights"),
        "STOKER_API_HOST": HOST,
        "STOKER_API_PORT": str(ports["api"]),
        # So that a webhook can reach a receiver on this machine.
        "STOKER_EGRESS_ALLOW": "127.0.0.0/8,::1/128",
        "STOKER_EGRESS_PORTS": "1-65535",
        "STOKER_EGRESS_HTTP": "true",
        "STOKER_FLOWER_BASIC_AUTH": f"stoker:{secrets.flower_password}",
    }
    return {**threads, **settings.inherited, **chosen, **settings.given}


def _asked_port(variable: str, value: str) -> int:
    if not value.isdecimal() or int(value) not in PORTS:
        raise StartError(f"{variable} is {value!r}; a port is a number from 1 to 65535.")
    if not is_free(int(value)):
        raise StartError(f"{variable} is {value}, but something else listens there. Stop it or ask for another.")
    return int(value)


def _require(settings: Settings, given: str, needed: tuple[str, ...]) -> None:
    if missing := [name for name in needed if name not in settings.given]:
        raise StartError(f"{given} is set, but {' and '.join(missing)} is not. Set it, too, or neither.")
