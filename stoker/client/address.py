"""Where the API is and what key opens it: told, from the environment, or from the `client.env` of `make up`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from stoker.client.errors import StokerError
from stoker.settings import read_exports

FILE = Path(".stoker", "client.env")
CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Address:
    """An API and a key."""

    url: str
    api_key: str = field(repr=False)


def find_address(environment: Mapping[str, str], folder: Path) -> Address:
    """Return what STOKER_URL and STOKER_API_KEY say; what they leave out is in the nearest client.env."""
    url, api_key = environment.get("STOKER_URL"), environment.get("STOKER_API_KEY")
    if not (url and api_key):
        told = _nearest(environment, folder)
        written = told.get("STOKER_URL")
        if not api_key and (not url or written == plain_url(url)):  # a key goes to its own API and to no other
            api_key = told.get("STOKER_API_KEY")
        url = url or written
    if not url:
        raise StokerError(
            "It is not known where the API is: start it with `make up`, or set STOKER_URL and STOKER_API_KEY."
        )
    if not api_key:
        raise StokerError(f"There is no key for {url}: set STOKER_API_KEY.")
    return make_address(url, api_key)


def make_address(url: str, api_key: str) -> Address:
    """Return an address that can be used, or say what is wrong with it."""
    if not (api_key.isascii() and api_key.isprintable()):
        raise StokerError("The API key holds characters that no key has; copy it whole, from client.env for example.")
    return Address(plain_url(url), api_key)


def plain_url(url: str) -> str:
    """Return an API's address as links begin: no slash and no /v1 at its end."""
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL:
        read = httpx.URL()
    if read.scheme not in ("http", "https") or not read.host:
        raise StokerError(f"'{url}' is not the address of an API; it must look like http://127.0.0.1:8000.")
    return url.rstrip("/").removesuffix("/v1")


def _nearest(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    for file in _candidates(environment, folder):
        try:
            return read_exports(file.read_text(encoding="utf-8"))
        except OSError:
            continue
    return {}


def _candidates(environment: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Yield where a client.env may be: the named state folder, else upwards from here, at last in this checkout."""
    if home := environment.get("STOKER_HOME"):
        yield folder / home / FILE.name
        return
    for above in (folder, *folder.parents, CHECKOUT):
        yield above / FILE
