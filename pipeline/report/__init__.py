"""The one offline HTML file that tells what a run did, and why it was pushed or not."""

from .document import build

__all__ = ["build"]
