"""Features: from the feature spec to tf.Transform ops and to the JSON preprocessing sidecar."""
