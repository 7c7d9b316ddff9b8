"""Validation: statistics, schema, anomalies and the data gate."""
