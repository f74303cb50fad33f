"""Parts of the overview: its cards, the chart of drops, the tables of namespaces and talkers. Asking questions is views/overview.py's."""
