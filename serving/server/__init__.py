"""A server that clients cannot tell from TensorFlow Serving: one core, a REST and a gRPC door."""
