"""Looks whether targets could be delivered to, without sending anything."""

from __future__ import annotations

import urllib.parse

from pipelines.evidence.delivery import hooks, mail
from warehouse import config


def where(target: config.Delivery) -> str:
    """Return where a target is, without what is secret: the whole address of a webhook is."""
    if target.smtp is not None:
        return target.smtp.server
    return target.folder.url if target.folder is not None else target.kind


def describe(target: config.Delivery) -> str:
    """Return what is known of a target: a mail server is signed in to, a webhook's address is read. Raises ConfigError, DeliveryError."""
    readers = target.role or ", ".join(target.subjects)
    hook = target.webhook or target.slack
    if target.smtp is not None:
        mail.sign_in(target)
        return f"signed in; to {', '.join(target.smtp.to)}, for {readers}"
    if hook is not None:
        hook.bearer()
        host = urllib.parse.urlsplit(hooks.checked(hook.url(), "the webhook's address")).hostname
        return f"a webhook of {host}, for {readers}; not tried, since trying would send"
    return f"a folder, for {readers}; not tried, since trying would write"
