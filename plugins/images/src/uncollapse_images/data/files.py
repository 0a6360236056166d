"""Files of image data sets that are missing or could not be downloaded, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from uncollapse.errors import DataError

__all__ = ["downloading", "require"]


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
