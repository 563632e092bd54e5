"""Which URLs of a caller we may talk to: their form, their port, and every address behind their name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self
from urllib.parse import quote, urlsplit

import idna

from schemas.errors import StartError, UrlRefusedError
from tasks.settings import TaskSettings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARACTERS = 2048
SHOWN_CHARACTERS = 100
DEFAULT_PORTS = {"https": 443, "http": 80}
SAFE_IN_PATH = "/%:@!$&'()*+,;=~-._?"
HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")
UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
UNICAST_V6 = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Global by the registry, and yet a way into somewhere else.
TUNNELS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.88.99.0/24",  # relays of 6to4
        "2001::/32",  # Teredo: an IPv4 address in disguise
        "2002::/16",  # 6to4: the same
        "3fff::/20",  # documentation; Python before 3.13 takes it for global
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that passed: its parts as they are connected to, with the host in ASCII and lower case."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """Return scheme, host and port: what shares a receiver's fate."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Return what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What an owner allows: networks that are not public, ports, and whether plain HTTP will do."""

    allow: tuple[Network, ...] = ()
    ports: tuple[range, ...] = (range(443, 444),)
    https_only: bool = True
    said_in: str = "STOKER_EGRESS"
    """What the names of the settings begin with."""

    @classmethod
    def read(cls, allow: str, ports: str, *, https_only: bool, said_in: str = said_in) -> Self:
        """Read lists such as `10.1.0.0/16, fd00::/8` and `443, 8000-8999`."""
        try:
            networks = tuple(ipaddress.ip_network(one) for one in _words(allow))
        except ValueError as error:
            raise StartError(f"{said_in}_ALLOW takes networks such as 10.1.0.0/16: {error}.") from None
        try:
            return cls(networks, tuple(_ports(one) for one in _words(ports)), https_only, said_in)
        except ValueError:
            raise StartError(f"{said_in}_PORTS takes ports and ranges of them, such as 443,8000-8999.") from None

    def check(self, url: str) -> Target:
        """Return the parts of a URL, or refuse it; a name is not looked up before it is connected to."""
        target = self._parse(url)
        if (literal := read_address(target.host)) is not None:
            self.admit(target.host, [literal])
        return target

    def admit(self, host: str, addresses: Iterable[Address]) -> None:
        """Refuse a host if any of its addresses is neither public nor allowed by the owner."""
        if any(not is_public(address) and not self._is_allowed(address) for address in addresses):
            raise UrlRefusedError(
                f"The host '{host[:SHOWN_CHARACTERS]}' is not on the public internet, so it is not contacted; "
                f"use a public one, or have the operator allow its network in {self.said_in}_ALLOW."
            )

    def _is_allowed(self, address: Address) -> bool:
        return any(unwrap(address) in network for network in self.allow)

    def _parse(self, url: str) -> Target:
        if len(url) > URL_CHARACTERS:
            raise UrlRefusedError(f"The URL has {len(url):,} characters; at most {URL_CHARACTERS:,} are taken.")
        if UNPRINTABLE.search(url):
            raise UrlRefusedError("The URL holds a space, a backslash or a control character; percent-encode it.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UrlRefusedError(f"The URL cannot be read: {error}.") from None
        schemes = ("https",) if self.https_only else ("https", "http")
        if parts.scheme not in schemes:
            raise UrlRefusedError(f"The URL must begin with {' or '.join(f'{one}://' for one in schemes)}.")
        if "@" in parts.netloc:
            raise UrlRefusedError("The URL holds a user name or password; take it out: what we send is signed.")
        port = DEFAULT_PORTS[parts.scheme] if port is None else port
        if not any(port in ports for ports in self.ports):
            raise UrlRefusedError(f"Port {port} is not allowed here; use {self._ports_in_words()}.")
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=SAFE_IN_PATH)
        return Target(parts.scheme, _read_host(parts.hostname or "", parts.netloc), port, path)

    def _ports_in_words(self) -> str:
        return ", ".join(str(one[0]) if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in self.ports)


def read_rules(settings: TaskSettings) -> Rules:
    """Return what the owner of this platform allows."""
    return Rules.read(settings.egress_allow, settings.egress_ports, https_only=not settings.egress_http)


def _read_host(host: str, netloc: str) -> str:
    """Return a host as it will be looked up and named: no zone, no trailing dot, no number in disguise."""
    if netloc.startswith("["):
        address = read_address(host)
        if address is None:
            raise UrlRefusedError("The address in brackets is not IPv6, or has a zone; write it plainly.")
        return str(address)
    try:
        name = idna.encode(host, uts46=True).decode() if not host.isascii() else host
    except idna.IDNAError:
        raise UrlRefusedError("The URL's host is not a name that can be looked up; correct it.") from None
    name = name.removesuffix(".")
    if not HOST.fullmatch(name):
        raise UrlRefusedError("The URL's host is not a name that can be looked up; correct it.")
    if NUMBER.fullmatch(name.rpartition(".")[2]) and read_address(name) is None:
        raise UrlRefusedError("The URL's host is a number; write an address as four decimal numbers with dots.")
    return name


def read_address(text: str) -> Address | None:
    """Return the address that a text is, strictly; one with a zone is none."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def unwrap(address: Address) -> Address:
    """Return the IPv4 address inside a mapped or NAT64 one, and any other as it is."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Say whether an address is a single host's on the public internet."""
    inner = unwrap(address)
    if isinstance(inner, IPv6Address) and inner not in UNICAST_V6:
        return False
    return inner.is_global and not inner.is_multicast and not any(inner in network for network in TUNNELS)


def _words(text: str) -> Sequence[str]:
    return text.replace(",", " ").split()


def _ports(text: str) -> range:
    first, _, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports[0] < 1 or ports[-1] > 65_535:  # noqa: PLR2004 - the last port there is
        raise ValueError(text)
    return ports
