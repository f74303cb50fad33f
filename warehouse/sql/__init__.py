"""SQL written by users: which statements may run, where they run, and how those processes are confined."""
