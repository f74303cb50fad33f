"""Who may see what, as of the time of a row: ownership, grants, scopes, redaction, and the log of what was asked.

Every table is read under a scope from here; no question is put together here."""
