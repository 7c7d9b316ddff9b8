"""Ingest: from raw files to split, shuffled TFRecord shards."""
