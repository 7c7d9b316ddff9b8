"""The thin TFX glue over the plain functions of components."""
