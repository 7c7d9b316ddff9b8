"""Inline SVG charts, one kind a file: values in, markup out."""
