"""What a user of Stoker holds: the Python client, the command line and the supervisor behind `make up`.

It imports none of the other packages. The client is loaded when it is asked for: the supervisor does without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stoker.client import AsyncStoker, Stoker, StokerError, Transcript

__all__ = ["AsyncStoker", "Stoker", "StokerError", "Transcript"]


def __getattr__(name: str) -> Any:
    """Return a name of the client."""
    if name not in __all__:
        raise AttributeError(f"module 'stoker' has no attribute '{name}'; stoker.client has the rest of the client.")
    return getattr(import_module("stoker.client"), name)
