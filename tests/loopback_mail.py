"""A mail server on this machine, for tests of what Airflow's notifiers send: it keeps what it is given."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

ANSWERS = {"EHLO": "250 here", "HELO": "250 here", "DATA": "354 go on", "QUIT": "221 bye"}


class MailServer(socketserver.ThreadingTCPServer):
    """Speaks as much of SMTP as a client needs to hand over a mail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mails: list[EmailMessage] = []

    def connection(self) -> dict[str, Any]:
        """Return the Airflow connection of type smtp."""
        extra = {"disable_ssl": True, "disable_tls": True, "retry_limit": 1}
        return {"conn_type": "smtp", "host": "127.0.0.1", "port": self.server_address[1], "extra": extra}


class _Handler(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 here")
        while line := self.rfile.readline():
            verb = line[:4].decode().upper()
            self._say(ANSWERS.get(verb, "250 ok"))
            if verb == "QUIT":
                return
            if verb == "DATA":
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                mail = email.message_from_bytes(body, policy=email.policy.default)
                assert isinstance(mail, EmailMessage)
                self.server.mails.append(mail)
                self._say("250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run a mail server."""
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
