"""Access control, as of the time of each row: ownership, grants, scopes, redaction and the access log.

Every table is read under a scope defined here. Building questions does not belong here."""
