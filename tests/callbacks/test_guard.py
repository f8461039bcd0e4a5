"""Where webhooks may go: every notation of an inner address is refused, and only https goes out."""

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.callbacks.guard import CallbackRefused, ReceiverUnreachable, check_target, is_public

INNER = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:db8::1",
    "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "2606:4700::1%1", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
OUTER = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::5e", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_refused_and_in_an_answer_of_dns_too(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(CallbackRefused, match="not a public address"):
        check_target("https://receiver.test/", private=False, resolver=lambda _: [address])
    assert check_target("http://receiver.test/", private=True, resolver=lambda _: [address]).addresses == (address,)


@pytest.mark.parametrize("address", OUTER)
def test_a_public_address_is_let_through(address: str) -> None:
    assert check_target("https://receiver.test/", private=False, resolver=lambda _: [address]).addresses == (address,)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "127.0.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "017700000001", "0",
        "127.0.0.1.", "①②⑦.⓪.⓪.①", "127。0。0。1", "localhost", "LOCALHOST", "localhost.", "3232235777", "2852039166",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25eth0]", "[0:0:0:0:0:0:0:1]",
        "[64:ff9b::7f00:1]", "[fd00:ec2::254]",
    ],
)  # fmt: skip
def test_the_operating_systems_own_notations_of_inner_addresses_are_refused(host: str) -> None:
    with pytest.raises(CallbackRefused, match="not a public address"):
        check_target(f"https://{host}/hook", private=False)


def test_one_inner_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(CallbackRefused, match=r"127\.0\.0\.1"):
        check_target("https://receiver.test/", private=False, resolver=lambda _: ["8.8.8.8", "127.0.0.1"])


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.test/", "ftp://receiver.test/", "file:///etc/passwd", "gopher://receiver.test/",
        "//receiver.test", "https://", "https:///hook", "https://user:word@receiver.test/", "https://receiver.test:99999/",
        "https://receiver.test:x/", "https://[::1", "https://a..b/", f"https://{'a' * 70}.test/", "", "hook",
    ],
)  # fmt: skip
def test_what_is_no_https_url_is_refused_without_a_question_to_dns(url: str) -> None:
    asked: list[str] = []
    with pytest.raises(CallbackRefused) as caught:
        check_target(url, private=False, resolver=lambda host: asked.append(host) or ["8.8.8.8"])  # type: ignore[func-returns-value]
    assert asked == []
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://Receiver.test", "receiver.test", 443, "/", "receiver.test"),
        ("https://receiver.test:8443/a b?x=1&y=ü", "receiver.test", 8443, "/a%20b?x=1&y=%C3%BC", "receiver.test:8443"),
        ("https://receiver.test:443/%20?q=%2F?", "receiver.test", 443, "/%20?q=%2F?", "receiver.test"),
        ("https://bücher.test/", "xn--bcher-kva.test", 443, "/", "xn--bcher-kva.test"),
        ("https://[2606:4700::1]:8443/", "2606:4700::1", 8443, "/", "[2606:4700::1]:8443"),
        ("https://receiver.test/a\r\nX-Evil: 1", "receiver.test", 443, "/aX-Evil:%201", "receiver.test"),
    ],
)
def test_a_url_is_taken_apart_as_it_goes_over_the_wire(
    url: str, host: str, port: int, path: str, authority: str
) -> None:
    target = check_target(url, private=False, resolver=lambda _: ["8.8.8.8"])
    assert (target.secure, target.host, target.port, target.path, target.authority) == (
        True, host, port, path, authority,
    )  # fmt: skip


def test_a_name_that_is_not_known_now_may_be_known_later() -> None:
    def unknown(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for resolver in (unknown, lambda _: []):
        with pytest.raises(ReceiverUnreachable, match=r"receiver\.test") as caught:
            check_target("https://receiver.test/", private=False, resolver=resolver)
        assert not caught.value.connected


@given(st.ip_addresses(v=4))
def test_an_inner_ipv4_address_stays_one_inside_ipv6(address: IPv4Address) -> None:
    inside = int(address)
    wrapped = [f"::ffff:{address}", str(IPv6Address((0x64FF9B << 96) | inside))]
    assert {is_public(one) for one in wrapped} == {is_public(str(address))}
    assert not is_public(str(IPv6Address((0x2002 << 112) | (inside << 80))))
    assert not is_public(str(IPv6Address(inside)))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_loopback or address.is_link_local:
        mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
        assert mapped or not is_public(str(address))


@given(st.text())
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(f"x{text}")
