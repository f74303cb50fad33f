"""Work that keeps the lake's tables small and current: compaction, rollups, retention, erasure, vacuum.

Each job may be run again at any time. When it runs is the DAGs' decision."""
