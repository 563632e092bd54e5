"""What a sick store says becomes our own error at the boundary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from schemas.errors import NotFoundError, ObjectStoreFaultError

_MISSING = {"NoSuchKey", "404"}


@contextmanager
def faults() -> Iterator[None]:
    """Raise NotFoundError for what is not there, ObjectStoreFaultError for everything else."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            raise NotFoundError from error
        raise ObjectStoreFaultError from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise ObjectStoreFaultError from error
