"""The command line: ``main`` runs it and turns errors into one readable message.

Nothing here imports torch, numpy or pydantic, so ``--help`` answers at once; every command imports what it needs when
it runs.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Mapping, Sequence

from ..errors import Interrupted, UncollapseError

__all__ = ["main"]

_DEBUG = "--debug"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        0; 2 after an error of the user's (printed as one message on stderr); 130 after an interruption; 1 after an
        error of ours, and where ``check`` found something. With ``--debug`` or ``UNCOLLAPSE_DEBUG=1`` the traceback is
        printed too.
    """
    if argv is None:
        _collect_late()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = _DEBUG in arguments or os.environ.get("UNCOLLAPSE_DEBUG", "0") not in ("", "0")
    from .app import run

    try:
        run([a for a in arguments if a != _DEBUG])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        _report("interrupted")
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = _explain(error)
        _report(message)
        return code
    return 0


def _collect_late() -> None:
    """Let the first search for circular garbage wait until the process is under way; later ones are the usual.

    Searching what imports make finds nothing, and takes a fourth of the time until the first step.
    """
    usual = gc.get_threshold()

    def back_to_usual(phase: str, info: Mapping[str, int]) -> None:
        if back_to_usual in gc.callbacks:
            gc.callbacks.remove(back_to_usual)
            gc.set_threshold(*usual)

    gc.callbacks.append(back_to_usual)
    # So many objects are made, and stay, until the first step of a training.
    gc.set_threshold(300_000)


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, Interrupted):
        return str(error), 130
    if isinstance(error, UncollapseError):
        return str(error), 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}", 2
    # By name, because naming the class would import torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; lower data.batch_size, evaluation.batch_size or the size of the model", 2
    text = str(error).strip()
    return (
        f"{type(error).__name__}{': ' if text else ''}{text}\nThis is a bug in uncollapse or in a plugin; run the "
        f"command again with {_DEBUG} to see where it comes from",
        1,
    )


def _report(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True, highlight=False)
