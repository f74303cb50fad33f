"""Parts of the SQL page: the editor, and queries that run beside the page."""
