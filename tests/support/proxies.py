"""A reverse proxy in front of a real server, which can add faults, TLS, a login or a path."""

import contextlib
import datetime as dt
import http.client
import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.http_server import QuietHandler, http_server

FILE = "/api/2.0/mlflow-artifacts/artifacts/"
"""The beginning of the path of each downloaded file."""

Fault = Callable[["Exchange"], bool]
"""Answers a request instead of the server and returns true, or returns false."""


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        url: Its address, with its path if it has one.
        upstream: The address of the server behind it.
        fault: May be changed between requests.
        authorization: The header that it requires and does not pass on; None passes any on.
        asked: Path and headers of each request.
    """

    url: str
    upstream: str
    fault: Fault
    authorization: str | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class Exchange(QuietHandler):
    """One request, to be answered by a fault or by the server."""

    proxy: Proxy

    def do_GET(self) -> None:  # noqa: N802 (http.server's name)
        """Pass a request on, unless there is a fault."""
        self.proxy.asked.append((self.path, dict(self.headers)))
        wanted = self.proxy.authorization
        if wanted is not None and self.headers["Authorization"] != wanted:
            self.answer(401, b"no token")
        elif not self.proxy.fault(self):
            self.relay()

    def answer(self, status: int, body: bytes, **headers: str) -> bool:
        """Answer in place of the server."""
        self.send(body, status, **headers)
        return True

    def hang_up(self) -> bool:
        """Close the connection without an answer."""
        self.close_connection = True
        return True

    def relay(self, cut: int | None = None, *, corrupt: bool = False, length: bool = True) -> bool:
        """Answer what the server answers.

        Args:
            cut: Break off after so many bytes of the body.
            corrupt: Invert the byte in the middle.
            length: Send the length of the whole body, so that the client can miss something.
        """
        parts = urlsplit(self.path)
        upstream = urlsplit(self.proxy.upstream)
        prefix = urlsplit(self.proxy.url).path
        headers = dict(self.headers)
        if not parts.netloc:  # a proxy of HTTP_PROXY is asked for a whole address, and keeps Host
            headers["Host"] = upstream.netloc
        if self.proxy.authorization is not None:
            headers.pop("Authorization", None)
        path = parts._replace(scheme="", netloc="").geturl().removeprefix(prefix)
        connection = http.client.HTTPConnection(upstream.netloc, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            found = connection.getresponse()
            body = found.read()
        if corrupt:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
        self.send_response(found.status)
        self.send_header("Content-Type", found.headers["Content-Type"] or "text/plain")
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        return True


def no_fault(_exchange: Exchange) -> bool:
    """Leave every request to the server."""
    return False


@contextlib.contextmanager
def proxy(
    upstream: str,
    *,
    prefix: str = "",
    tls: ssl.SSLContext | None = None,
    authorization: str | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Proxy]:
    """Run a proxy on a free port until the block ends."""
    handler = type("Handler", (Exchange,), {})
    with http_server(handler, host=host, tls=tls) as url:
        running = Proxy(url + prefix, upstream, no_fault, authorization)
        handler.proxy = running  # type: ignore[attr-defined]
        yield running


def on_files(act: Fault) -> Fault:
    """Make a fault of the downloads alone."""
    return lambda exchange: FILE in exchange.path and act(exchange)


def delayed(seconds: float) -> Fault:
    """Make a fault that answers late."""

    def act(_exchange: Exchange) -> bool:
        time.sleep(seconds)
        return False

    return act


def make_certificate(folder: Path, name: str) -> Path:
    """Make a self-signed certificate of 127.0.0.1, good for server, client and authority.

    Returns:
        A PEM file with the certificate and its key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(pem) + secret)
    return path


def server_tls(own: Path, client: Path | None = None) -> ssl.SSLContext:
    """Make the TLS of a server, which may ask for a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client)
    return context
