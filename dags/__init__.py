"""When things run: thin Airflow DAGs. What runs is in pipelines; the command line calls the same functions."""
