"""Servers of the fault matrix that misbehave where the sandbox cannot: below HTTP, in TLS, and on another host."""

from __future__ import annotations

import atexit
import functools
import http.client
import shutil
import socket
import ssl
import struct
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Seen:
    """One request as a server saw it; ``time`` is that of the simulated clock."""

    time: datetime
    operation: str
    status: int | None
    applied: bool


@functools.cache
def certificate() -> Path:
    """Return a PEM file with a self-signed certificate for 127.0.0.1 and its key, made once in a process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    # OpenSSL uses the machine's clock: the certificate is valid by that one and by the simulated one.
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1))
        .not_valid_after(datetime(2049, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tempfile.mkdtemp(prefix="fault-matrix-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def closed_port() -> int:
    """Return a port of loopback without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Listener:
    """A TCP server on loopback with a thread for each connection."""

    def __init__(self, *, tls: bool = False) -> None:
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate())
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close the listener and every connection."""
        for end in (self._socket, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        raise NotImplementedError

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._open.append(connection)
                threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with suppress(OSError, http.client.HTTPException):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                self.serve(connection)


class Front(Listener):
    """Forwards requests to the sandbox, except for the updates that it disturbs.

    behaviour
        reset_unread: a reset without reading the request. close: the request is read, the connection closed.
        reset_mid: the change is applied, the answer breaks off in a reset. http10: each answer is HTTP/1.0, and the
        connection ends with it. promise: says keep-alive, yet ends the connection. A URL: a 307 to there.
    times
        How many updates are disturbed; None: all.
    """

    def __init__(self, sandbox_url: str, behaviour: str, times: int | None, *, tls: bool = False) -> None:
        self._target = sandbox_url.removeprefix("http://")
        self._behaviour = behaviour
        self._left = times
        self.seen: list[Seen] = []
        super().__init__(tls=tls)

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        while True:
            if (
                self._behaviour == "reset_unread"
                and connection.recv(4, socket.MSG_PEEK) == b"POST"
                and self._disturbs()
            ):
                self._record(None)
                return _reset(connection)
            request = _read(connection)
            if request is None:
                return
            method, path, headers, body = request
            disturbed = "/update/" in path and self._behaviour != "reset_unread" and self._disturbs()
            if disturbed and self._behaviour == "close":
                return self._record(None)
            if disturbed and "://" in self._behaviour:
                self._record(307)
                connection.sendall(_answer(307, b"", location=f"{self._behaviour}{path}"))
                continue
            status, kind, content = self._pass_on(method, path, headers, body)
            answer = _answer(status, content, content_type=kind)
            if disturbed and self._behaviour == "reset_mid":
                connection.sendall(answer[:-1])
                return _reset(connection)
            if disturbed and self._behaviour == "promise":
                return connection.sendall(answer)
            if self._behaviour == "http10":
                return connection.sendall(answer.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            connection.sendall(answer)

    def _disturbs(self) -> bool:
        if self._left == 0:
            return False
        self._left = None if self._left is None else self._left - 1
        return True

    def _record(self, status: int | None) -> None:
        self.seen.append(Seen(datetime.now(UTC), "update", status, False))

    def _pass_on(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self._target, timeout=10)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            connection.close()


class OtherHost(Listener):
    """Another host, which answers every request with 200 and keeps what it received."""

    def __init__(self) -> None:
        self.received: list[str] = []
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        while (request := _read(connection)) is not None:
            self.received.append(repr(request))
            connection.sendall(_answer(200, b"{}", content_type="application/json"))


def http_date(moment: datetime) -> str:
    """Return a moment as HTTP writes it."""
    return format_datetime(moment, usegmt=True)


def after(moment: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds later."""
    return moment + timedelta(seconds=seconds)


def _read(connection: socket.socket) -> tuple[str, str, dict[str, str], bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ", 2)
    kept = {name: value for name, value in headers.items() if name not in ("connection", "content-length")}
    return method, path, kept, body


def _answer(status: int, body: bytes, **headers: str) -> bytes:
    lines = {"Date": http_date(datetime.now(UTC)), "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-").title(): value for name, value in headers.items() if value}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
