"""Thin Airflow DAGs that define when pipelines run. The work is in pipelines; the command line calls the same functions."""
