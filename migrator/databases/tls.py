"""Why a TLS connection did not come about, in words."""

from __future__ import annotations

import re
import socket
import ssl

ALERT_SECONDS = 0.5
REASONS = (  # what OpenSSL says, of both ends, and what it means
    ("self-signed certificate in certificate chain|unable to get (local )?issuer", "another CA has signed the server's certificate"),
    ("self-signed certificate", "the server's certificate is self-signed"),
    ("certificate has expired", "the server's certificate has expired"),
    ("(Hostname|IP address) mismatch", "the server's certificate is for another host name"),
    ("WRONG_VERSION_NUMBER", "the server speaks no TLS on this port"),
    ("UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION", "the server offers nothing newer than TLS 1.1"),
    ("ALERT_CERTIFICATE_REQUIRED", "the server requires a client certificate"),
    ("ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_)", "the server does not accept this client certificate"),
)


def failure(text: str) -> str:
    """One line that says which failure it is; empty if an error's text is about no TLS, or the connection just ended."""
    if "EOF" in text or not re.search(r"\[SSL\b|\(2026\)", text):
        return ""
    return "TLS failed: " + next((f"{reason}: " for pattern, reason in REASONS if re.search(pattern, text)), "") + text


def alert(host: str, port: int, context: ssl.SSLContext) -> str:
    """The failure that a server tells of behind the handshake; empty if it says nothing.

    It ends the connection then, and a client that is writing its request sees no more than that: this one only listens.
    """
    try:
        with socket.create_connection((host, port), ALERT_SECONDS) as plain, context.wrap_socket(plain, server_hostname=host) as sock:
            sock.recv(1)
    except OSError as error:
        return failure(str(error))
    return ""
