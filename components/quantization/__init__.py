"""Quantization: the variants of one trained model, each checked for stripped weights."""
