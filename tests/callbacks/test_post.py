"""One POST over real sockets: pinned to the checked address, no redirect, no proxy, TLS by name, one deadline."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from avatar_pipeline.callbacks.guard import CallbackRefused, ReceiverUnreachable
from avatar_pipeline.callbacks.post import GuardedPost
from tests.callbacks.conftest import Receiver, receiving

POST = GuardedPost(private=True)


def test_path_query_headers_and_body_arrive_as_they_are(receiver: Receiver) -> None:
    answer = POST(f"{receiver.url}?token=1%2F2", '{"name": "ü"}'.encode(), {"webhook-id": "msg_1"})
    assert answer.accepted
    ((path, headers, body),) = receiver.received
    assert (path, headers["webhook-id"], body) == ("/hook?token=1%2F2", "msg_1", '{"name": "ü"}')
    assert headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with receiving() as inner:
        receiver.answers = [(status, {"Location": inner.url})]
        answer = POST(receiver.url, b"{}", {})
        assert (answer.status, answer.accepted) == (status, False)
        assert inner.received == []


def test_no_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        POST(receiver.url, b"{}", {})
        assert (len(receiver.received), len(proxy.received)) == (1, 0)


def test_the_connection_goes_to_the_address_that_was_checked_though_dns_changes_its_mind(receiver: Receiver) -> None:
    asked = []

    def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with receiving(address="127.0.0.2", port=receiver.port) as inner:
        # No resolver but ours knows this name: whoever asks again, whomever, does not get here.
        GuardedPost(private=True, resolver=rebinding)(f"http://receiver.invalid:{receiver.port}/", b"{}", {})
        assert (len(receiver.received), len(inner.received), asked) == (1, 0, ["receiver.invalid"])


def test_nothing_is_connected_to_when_the_address_is_refused(receiver: Receiver) -> None:
    with pytest.raises(CallbackRefused):
        GuardedPost(private=False)(f"https://localhost:{receiver.port}/", b"{}", {})
    assert receiver.received == []


def test_the_second_address_is_tried_where_the_first_does_not_answer(receiver: Receiver) -> None:
    post = GuardedPost(private=True, resolver=lambda _: ["127.0.0.3", "127.0.0.1"])
    assert post(f"http://receiver.invalid:{receiver.port}/", b"{}", {}).accepted


def test_a_closed_port_is_an_unreachable_host() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ReceiverUnreachable, match="cannot be reached: Connection refused") as caught:
            POST(f"http://127.0.0.1:{bound.getsockname()[1]}/", b"{}", {})
    assert not caught.value.connected


@contextmanager
def _speaking(pieces: Iterator[bytes]) -> Iterator[str]:
    """A server that reads a request and then says what it is told, however little HTTP that is."""
    done = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                asked = b""
                while not asked.endswith(b"{}"):
                    asked += connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                    if done.wait(0.01):
                        return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        (b"HTTP/1.1 2xx Fine\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 70000, "not HTTP"),
    ],
)
def test_an_answer_that_is_no_http_is_no_answer(said: bytes, why: str) -> None:
    with _speaking(iter([said])) as url, pytest.raises(ReceiverUnreachable, match=why) as caught:
        POST(url, b"{}", {})
    assert caught.value.connected
    assert "SSH" not in str(caught.value)


@pytest.mark.parametrize(("first", "drip"), [(b"H", b"x"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")])
def test_a_server_that_answers_drop_by_drop_is_cut_off(first: bytes, drip: bytes) -> None:
    with (
        _speaking(iter([first] + [drip] * 60000)) as url,
        pytest.raises(ReceiverUnreachable, match=r"no answer within 0\.3 s") as caught,
    ):
        GuardedPost(private=True, total_seconds=0.3)(url, b"{}", {})
    assert caught.value.connected


def test_a_status_is_an_answer_though_the_headers_behind_it_never_end() -> None:
    with _speaking(iter([b"HTTP/1.1 200 OK\r\nX: "] + [b"y"] * 60000)) as url:
        assert GuardedPost(private=True, total_seconds=1.0)(url, b"{}", {}).accepted


def test_a_large_body_of_an_answer_is_not_waited_for() -> None:
    endless = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"] + [b"x" * 1000] * 60000)
    with _speaking(endless) as url:
        assert POST(url, b"{}", {}).accepted


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for receiver.invalid that nobody but itself vouches for, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver.invalid")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("receiver.invalid")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "receiver.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving(tls=context) as one:
        yield one


def test_tls_is_verified_against_the_hosts_name_and_not_the_address(secure: Receiver, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    post = GuardedPost(private=True, resolver=lambda _: ["127.0.0.1"], tls=trusting)
    assert post(f"https://receiver.invalid:{secure.port}/", b"{}", {}).accepted
    for host in ("other.invalid", "127.0.0.1"):
        with pytest.raises(ReceiverUnreachable, match="no trusted certificate") as caught:
            post(f"https://{host}:{secure.port}/", b"{}", {})
        assert not caught.value.connected
    assert len(secure.received) == 1


def test_a_self_signed_certificate_is_not_trusted(secure: Receiver) -> None:
    post = GuardedPost(private=True, resolver=lambda _: ["127.0.0.1"])
    with pytest.raises(ReceiverUnreachable, match="no trusted certificate: self-signed"):
        post(f"https://receiver.invalid:{secure.port}/", b"{}", {})
    assert secure.received == []


def test_https_to_a_server_of_plain_http_is_no_answer(receiver: Receiver) -> None:
    with pytest.raises(ReceiverUnreachable, match="TLS"):
        POST(f"https://127.0.0.1:{receiver.port}/", b"{}", {})
    assert receiver.received == []
