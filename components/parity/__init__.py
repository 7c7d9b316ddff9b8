"""Parity: one tolerance and golden values for every pair of runtimes."""
