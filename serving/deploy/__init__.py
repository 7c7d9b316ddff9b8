"""Files that deploy the real TensorFlow Serving: docker compose, Kubernetes, KServe, and its monitoring."""
