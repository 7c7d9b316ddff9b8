"""Model repository layout, the embedded TF-Serving-compatible server and its clients."""
