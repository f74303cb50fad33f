"""Jobs that keep the lake's tables small and current: compaction, rollups, retention, erasure, vacuum.

Each job may be run again at any time. The DAGs decide when it runs."""
