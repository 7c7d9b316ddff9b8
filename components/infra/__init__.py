"""Infra: load as the C++ server loads, answer golden requests, measure cost."""
