"""Whether a graph answers each row by itself, found out from its operators and not from samples."""
