"""People's own SQL: which statements may run, where they run, and how those processes are confined."""
