"""Training: tf.data input, callbacks, the fit itself and the two exports of the fitted model."""
