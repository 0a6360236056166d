"""Files that are truncated or not what they should be, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, UncollapseError

__all__ = ["reading"]


@contextmanager
def reading(place: str, what: Path | str) -> Iterator[None]:
    """Turn whatever goes wrong while a data file is read into a message that names it.

    Raises:
        DataError: The file is truncated, of another format, or cannot be read.
    """
    try:
        yield
    except UncollapseError:
        raise
    except Exception as error:
        # Readers report a damaged file with exceptions of every kind, assertions among them; few name the file.
        reason = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
        raise DataError(
            f"{place}: {what} cannot be read, it is truncated or of another format ({reason}); get it again"
        ) from error
