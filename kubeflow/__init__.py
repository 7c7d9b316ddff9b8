"""Compiles, submits, schedules and simulates the DAG on Kubeflow Pipelines v2."""
