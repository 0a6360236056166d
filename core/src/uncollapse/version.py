"""The version of this uncollapse."""

__all__ = ["__version__"]

__version__ = "0.1.0"
"""Version of the core; the project's distributions are released together."""
