"""What checks say against what they are given."""

from collections.abc import Callable

from schemas.errors import StokerError
from stoker.errors import StartError


def refusal(check: Callable[..., None], *given: object) -> str | None:
    """The sentence that a check refuses something with; None where it lets it through."""
    try:
        check(*given)
    except (StokerError, StartError) as error:
        return str(error) or type(error).__name__
    return None
