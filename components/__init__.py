"""Components: plain functions for every concern of the pipeline, and thin TFX nodes over them."""
