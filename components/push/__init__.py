"""Push: atomic publication to the TF Serving and TF Lite layouts, with sums."""
