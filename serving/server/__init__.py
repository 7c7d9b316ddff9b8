"""A server that clients cannot tell from TensorFlow Serving 2.20.0: one core, a REST and a gRPC door.

What differs all the same is listed in docs/serving.md.
"""

__all__ = ["UPSTREAM"]

UPSTREAM = "2.20.0"
"""Tag of TensorFlow Serving whose sources tell what this server does; docs/deploy.md runs the same."""
