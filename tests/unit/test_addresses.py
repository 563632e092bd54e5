"""Which URLs are refused before anything is sent, and which addresses count as public."""

import ipaddress

import pytest

from schemas.errors import StartError, UrlRefusedError
from tasks.addresses import Rules, is_public

OPEN = Rules.read("", "1-65535", https_only=False)
STRICT = Rules.read("", "443,8000-8002", https_only=True)

NOT_PUBLIC = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "192.88.99.1", "::", "::1", "fe80::1", "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:7f00:1",
    "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1",
    "2001:db8::1", "3fff::1", "100::1", "4000::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_a_public_host_is_known_as_such(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public_in_every_writing(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


REFUSED = [
    ("ftp://example.com/", "must begin with https:// or http://"),
    ("file:///etc/passwd", "must begin with"),
    ("gopher://example.com:70/_x", "must begin with"),
    ("//example.com/", "must begin with"),
    ("example.com", "must begin with"),
    ("", "must begin with"),
    ("https://", "not a name"),
    ("https:///path", "not a name"),
    ("https://example.com:0/", "Port 0 is not allowed"),
    ("https://example.com:99999/", "cannot be read"),
    ("https://example.com:port/", "cannot be read"),
    ("https://user:secret@example.com/", "user name or password"),
    ("https://example.com@127.0.0.1/", "user name or password"),
    ("https://127.0.0.1\\@example.com/", "backslash"),
    ("https://example.com/\r\nHost: internal", "control character"),
    ("https://exa mple.com/", "a space"),
    ("https://exa%6dple.com/", "not a name"),
    ("https://[::1%25eth0]/", "IPv6, or has a zone"),
    ("https://[fe80::1%eth0]/", "IPv6, or has a zone"),
    ("https://[127.0.0.1]/", "cannot be read"),
    ("https://[::1/", "cannot be read"),
    ("https://2130706433/", "is a number"),
    ("https://0x7f000001/", "is a number"),
    ("https://0x7f.1/", "is a number"),
    ("https://017700000001/", "is a number"),
    ("https://0177.0.0.1/", "is a number"),
    ("https://127.1/", "is a number"),
    ("https://127.0.0.1./", "not on the public internet"),
    ("https://0.0.0.0/", "not on the public internet"),
    ("https://169.254.169.254/latest/meta-data", "not on the public internet"),
    ("https://[::ffff:127.0.0.1]/", "not on the public internet"),
    ("https://[::ffff:7f00:1]/", "not on the public internet"),
    ("https://[64:ff9b::a9fe:a9fe]/", "not on the public internet"),
    ("https://[::]/", "not on the public internet"),
    ("https://\uff11\uff12\uff17.0.0.1/", "not on the public internet"),  # full-width digits
    ("https://127\u30020\u30020\u30021/", "not on the public internet"),  # ideographic full stops
    ("https://\u2460\u2461\u2466.0.0.1/", "not on the public internet"),  # circled digits
    ("https://-example.com/", "not a name"),
    ("https://" + "a" * 64 + ".com/", "not a name"),
    ("https://example.com/" + "a" * 10_000, "at most 2,048"),
]


@pytest.mark.parametrize(("url", "words"), REFUSED, ids=[url[:50] or "empty" for url, _ in REFUSED])
def test_a_url_that_may_not_be_contacted_is_refused_with_a_sentence(url: str, words: str) -> None:
    with pytest.raises(UrlRefusedError) as refused:
        OPEN.check(url)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://example.com/", "must begin with https://"), ("https://example.com:22/", "use 443, 8000-8002")],
)
def test_production_wants_https_and_known_ports(url: str, words: str) -> None:
    with pytest.raises(UrlRefusedError) as refused:
        STRICT.check(url)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("HTTPS://Example.COM/a?b=c#d", "https://example.com", "/a?b=c"),
        ("https://example.com.:8001", "https://example.com:8001", "/"),
        ("https://b\u00fccher.example/\u00fc", "https://xn--bcher-kva.example", "/%C3%BC"),
        ("https://[2606:4700:4700:0::1111]:8002/%20x", "https://[2606:4700:4700::1111]:8002", "/%20x"),
    ],
)
def test_a_good_url_is_taken_apart_in_one_way(url: str, origin: str, path: str) -> None:
    target = STRICT.check(url)
    assert (target.origin, target.path) == (origin, path)


def test_an_owner_may_allow_networks_of_his_own() -> None:
    rules = Rules.read("10.1.0.0/16, ::1/128", "443", https_only=True)
    assert rules.check("https://10.1.2.3/").host == "10.1.2.3"
    assert rules.check("https://[::ffff:10.1.2.3]/").host == "::ffff:a01:203"
    for refused in ("https://10.2.0.1/", "https://127.0.0.1/"):
        with pytest.raises(UrlRefusedError):
            rules.check(refused)


def test_one_bad_address_is_enough_to_refuse_a_name() -> None:
    with pytest.raises(UrlRefusedError):
        STRICT.admit("two.example", [ipaddress.ip_address("1.1.1.1"), ipaddress.ip_address("10.0.0.1")])


def test_a_refusal_names_the_setting_that_it_comes_from() -> None:
    rules = Rules.read("", "443", https_only=True, said_in="STOKER_LORA_EGRESS")
    with pytest.raises(UrlRefusedError, match="allow its network in STOKER_LORA_EGRESS_ALLOW"):
        rules.check("https://127.0.0.1/")
    with pytest.raises(StartError, match="STOKER_LORA_EGRESS_PORTS"):
        Rules.read("", "9-8", https_only=True, said_in="STOKER_LORA_EGRESS")


@pytest.mark.parametrize(("allow", "ports"), [("10.0.0.1/8", "443"), ("all", "443"), ("", "https"), ("", "9-8")])
def test_settings_with_a_slip_stop_the_start(allow: str, ports: str) -> None:
    with pytest.raises(StartError, match="STOKER_EGRESS_"):
        Rules.read(allow, ports, https_only=True)
