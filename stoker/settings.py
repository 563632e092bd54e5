"""What the environment says about this run; the only place of this package that reads it."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "STOKER_"
EXPORT = "export "


@dataclass(frozen=True)
class Settings:
    """The supervisor's settings."""

    home: Path
    """The state folder."""
    given: Mapping[str, str]
    """Every STOKER_* variable of the user: what is given wins over what the supervisor would choose."""
    inherited: Mapping[str, str]
    """The whole environment, handed on to the parts."""
    under_make: bool = False
    """Whether `make` started us, so that its death must be ours."""
    colour: bool = False


def read_settings() -> Settings:
    """Read the settings from the environment; empty variables count as not given."""
    environment = dict(os.environ)
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value}
    return Settings(
        home=Path(given.get("STOKER_HOME", ".stoker")).resolve(),
        given=given,
        inherited=environment,
        under_make="MAKELEVEL" in environment,
        colour=sys.stdout.isatty() and "NO_COLOR" not in environment,
    )


def client_environment() -> dict[str, str]:
    """Return the STOKER_* variables, by which a client may be told where the API is."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and value}


def write_exports(variables: Mapping[str, str]) -> str:
    """Return lines that give variables to a shell that reads them, and to what it starts."""
    return "".join(f"{EXPORT}{name}={value}\n" for name, value in variables.items())


def read_exports(text: str) -> dict[str, str]:
    """Return the variables of such lines."""
    return dict(line.removeprefix(EXPORT).split("=", 1) for line in text.splitlines() if "=" in line)
