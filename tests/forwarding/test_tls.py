"""Receivers whose certificates are not valid: nothing is sent, and the reason is said in words."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from inboxd.domain.forwarding import Unreached
from inboxd.forwarding.target import TargetClient
from inboxd.runtime.clock import Clock

DAY = timedelta(days=1)


def certificate(folder: Path, *, host: str = "localhost", first: int = -2, last: int = 2) -> Path:
    """A certificate that signs itself, valid from so many days to so many days from now, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + first * DAY)
        .not_valid_after(now + last * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


async def error_of(path: Path | None, monkeypatch: pytest.MonkeyPatch, *, trusted: bool) -> str:
    """What is said of a push to a server with this certificate, or without TLS."""
    bodies = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal bodies
        bodies += b"very private" in await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    theirs = None
    if path is not None:
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        theirs.load_cert_chain(path)
        if trusted:
            ours = ssl.create_default_context(cafile=path)
            monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ours)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=theirs)
    async with server, TargetClient(Clock(), lambda: ()) as target:
        port = server.sockets[0].getsockname()[1]
        answer = await target.post(f"https://localhost:{port}/very-secret", {}, b"very private", timeout_s=10)
    assert answer.outcome is Unreached.REFUSED
    assert answer.error is not None
    assert "very-secret" not in answer.error
    assert not bodies
    return answer.error


@pytest.mark.parametrize(
    ("host", "last", "trusted", "said"),
    [
        ("localhost", 2, False, "self-signed"),
        ("localhost", -1, True, "expired"),
        ("other.example", 2, True, "not for this host"),
    ],
)
async def test_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, last: int, said: str, *, trusted: bool
) -> None:
    error = await error_of(certificate(tmp_path, host=host, last=last), monkeypatch, trusted=trusted)
    assert said in error


async def test_a_certificate_of_tomorrow_is_not_valid_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = await error_of(certificate(tmp_path, first=1), monkeypatch, trusted=True)
    assert "not valid yet" in error


async def test_a_receiver_without_tls_is_told_from_one_with_a_bad_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    error = await error_of(None, monkeypatch, trusted=False)
    assert "http://" in error
    assert "certificate" not in error
