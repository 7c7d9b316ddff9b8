"""Dataset and feature specs, readers and sample datasets."""
