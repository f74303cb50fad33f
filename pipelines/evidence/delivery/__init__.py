"""Delivers messages (reports, alerts) to the targets of the configuration: folders, object storage, e-mail, chats, webhooks.

`delivering.deliver` is the one way out. It checks that everyone who reads at a target may see the message, tries again while a target
is away, and records each delivery in the table `deliveries`.
"""
