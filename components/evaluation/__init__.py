"""Evaluation: predictions of every variant by its own runtime, judged by the same code."""
