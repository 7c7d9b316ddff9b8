"""Sections of the report: each turns a run's facts into what its template prints, or None."""
