"""Tuning: a Keras Tuner search over the fields that the config declares."""
