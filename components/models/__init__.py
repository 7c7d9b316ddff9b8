"""Model families: a registry of functions that build a Keras model from a feature spec."""
