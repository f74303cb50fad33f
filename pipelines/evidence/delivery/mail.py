"""Sends messages as e-mail over SMTP with TLS. Without a verified certificate nothing is sent, not even the password."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from pipelines.evidence.delivery.message import Message
from warehouse import config
from warehouse.errors import ConfigError, DeliveryError, DeliveryRefusedError


def send(target: config.Delivery, message: Message) -> str | None:
    """Send a message to all recipients of a target; return which of them the server refused, None for none of them.

    Raises ConfigError, DeliveryError; DeliveryRefusedError if the server refuses the message, the sender or all recipients.
    """
    with _session(target) as (server, smtp):
        refused = server.send_message(_email(smtp, message), from_addr=smtp.sender, to_addrs=list(smtp.to))
    return ", ".join(f"{address} was refused with {code}" for address, (code, _) in sorted(refused.items())) or None


@contextlib.contextmanager
def _session(target: config.Delivery) -> Iterator[tuple[smtplib.SMTP, config.Smtp]]:
    """Provide a connection to a target's server on which the user is signed in. Raises ConfigError, DeliveryError."""
    smtp = target.smtp
    if smtp is None:
        raise ValueError(f"{target.name} sends no e-mail")
    password = smtp.password() if smtp.username is not None else None
    try:
        context = ssl.create_default_context(cafile=smtp.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"deliveries: {target.name}: the certificates in {smtp.ca} cannot be read: {error}") from error
    try:
        with _connected(smtp, context, target.timeout.total_seconds()) as server:
            if smtp.username is not None and password is not None:
                server.login(smtp.username, password)
            yield server, smtp
    except smtplib.SMTPException as error:
        raise _failure(smtp.server, error) from None
    except ssl.SSLCertVerificationError as error:
        raise DeliveryRefusedError(f"{smtp.server}: its certificate is not trusted: {error.verify_message}") from None
    except OSError as error:
        reason = "it does not answer in time" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__)
        raise DeliveryError(f"{smtp.server} cannot be reached: {reason}") from None


def sign_in(target: config.Delivery) -> None:
    """Connect to a target's server and sign in, and send nothing. Raises ConfigError, DeliveryError."""
    with _session(target):
        return


def _connected(smtp: config.Smtp, context: ssl.SSLContext, seconds: float) -> smtplib.SMTP:
    host, _, port = smtp.server.rpartition(":")
    host = host.strip("[]")
    if smtp.tls == "implicit":
        return smtplib.SMTP_SSL(host, int(port), timeout=seconds, context=context)
    server = smtplib.SMTP(host, int(port), timeout=seconds)
    try:
        server.starttls(context=context)
    except BaseException:
        server.close()
        raise
    return server


def _failure(server: str, error: smtplib.SMTPException) -> DeliveryError:
    """Return the error for a server's answer: codes 4xx and lost connections may pass, all others will not."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return DeliveryRefusedError(f"{server} refuses the user name or password ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return DeliveryRefusedError(f"{server} does not offer TLS or sign-in, so nothing was sent: {error}")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = {address: code for address, (code, _) in error.recipients.items()}
        refused = ", ".join(f"{address} ({code})" for address, code in sorted(codes.items()))
        return (DeliveryError if min(codes.values(), default=500) < 500 else DeliveryRefusedError)(f"{server} refuses {refused}")
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
        text = f"{server} answered {error.smtp_code} {' '.join(said.split())[:200]}"
        return (DeliveryError if 400 <= error.smtp_code < 500 or error.smtp_code <= 0 else DeliveryRefusedError)(text)
    if isinstance(error.__context__, TimeoutError):
        return DeliveryError(f"{server} cannot be reached: it does not answer in time")
    return DeliveryError(f"{server}: {error or type(error).__name__}")


def _email(smtp: config.Smtp, message: Message) -> EmailMessage:
    email = EmailMessage()
    email["Subject"] = message.line
    email["From"] = smtp.sender
    email["To"] = ", ".join(smtp.to)
    email["Date"] = formatdate(usegmt=True)
    email["Message-ID"] = f"<{message.id}@{make_msgid(domain=smtp.sender.rpartition('@')[2]).rpartition('@')[2]}"
    email["Auto-Submitted"] = "auto-generated"
    email.set_content(message.text)
    for file in message.files:
        main, _, sub = file.media_type.partition("/")
        email.add_attachment(file.read(), maintype=main, subtype=sub or "octet-stream", filename=file.name)
    return email
