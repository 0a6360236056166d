"""Files that are either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .errors import RunDirectoryError

__all__ = ["write_atomically"]


def write_atomically(path: Path | str, content: str | bytes) -> Path:
    """Write ``content`` to ``path`` through a temporary neighbour that replaces it in one step; return the path.

    Raises:
        RunDirectoryError: The file cannot be written (a full disk, no permission); the old one is untouched.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise RunDirectoryError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
