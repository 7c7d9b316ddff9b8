"""Readers that stream Arrow record batches in bounded memory."""
