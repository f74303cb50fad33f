"""Work on stored tables: compaction, rollups, retention, configuration history, drift, policy, reports.

Belongs here: idempotent jobs that a scheduler or the command line runs. Does not belong here: collecting, or Airflow.
"""
