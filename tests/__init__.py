"""Tests, a folder per room, plus e2e."""
