"""Files that are missing, truncated or not what they should be, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, UncollapseError

__all__ = ["downloading", "reading", "require"]


def require(name: str, folder: Path, files: Sequence[str], *, place: str = "data.root", download: bool = True) -> None:
    """Check that ``files`` lie in ``folder``.

    Args:
        name: Name of the data set.
        folder: Where to look.
        files: What to look for, relative to ``folder``.
        place: Field of the config that names the folder.
        download: Whether ``download: true`` is a way to get them.

    Raises:
        DataError: One is missing.
    """
    for file in files:
        if not (folder / file).is_file():
            fetch = "set data.download: true to fetch it, or " if download else ""
            raise DataError(
                f"{place}: {name} is not in {folder.absolute()}: the file {file} is missing; {fetch}point {place} at "
                "the folder that holds it"
            )


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


@contextmanager
def downloading(name: str, folder: Path) -> Iterator[None]:
    """Turn a failed download into a message that says what to do without a network.

    Raises:
        DataError: The download failed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"data.download: {name} could not be downloaded to {folder.absolute()}: {reason}; check the network and "
            "the folder, or put the files there by hand"
        ) from error
