"""Nodes: the thin TFX glue over the room functions."""
