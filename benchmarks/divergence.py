"""Time and memory of MAE's penalty, forward and backward, against the plain broadcast over all pairs and dimensions.

``released``: both terms as the regularizer computes them, variant ``released``, 512 examples, 32 dimensions.
``paper``: L_diverse of eq. 8, 1024 examples, 64 dimensions; ``paper_mb`` is the extra memory at its peak, in MB.
Each ratio is the median over runs of (ours / plain), the two measured one after the other.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import softplus
from uncollapse.distributions import DiagonalNormal
from uncollapse.protocols import Penalty
from uncollapse_mae import MutualDivergence, functional

Function = Callable[[Tensor, Tensor], Tensor]
LIMITS = {"released": 0.02, "paper": 0.25, "paper_mb": 100.0}


def plain_divergences(mean: Tensor, logvar: Tensor) -> Tensor:
    difference = logvar[:, None] - logvar[None]
    distance = (mean[:, None] - mean[None]).square()
    return 0.5 * (difference.exp() - 1 - difference + distance / logvar.exp()[None])


def plain_released(mean: Tensor, logvar: Tensor) -> Tensor:
    divergences = plain_divergences(mean, logvar)
    different = ~torch.eye(len(mean), dtype=torch.bool, device=mean.device)
    per_dimension = (divergences * different[..., None]).sum((0, 1)) / different.sum()
    value: Tensor = softplus(-per_dimension).sum() + 0.5 * divergences.sum(-1)[different].std()
    return value


def plain_paper(mean: Tensor, logvar: Tensor) -> Tensor:
    different = ~torch.eye(len(mean), dtype=torch.bool, device=mean.device)
    value: Tensor = softplus(-plain_divergences(mean, logvar)).sum(-1)[different].mean()
    return value


def our_released(mean: Tensor, logvar: Tensor) -> Tensor:
    penalty: Penalty = MutualDivergence(eta=1.0, gamma=0.5, variant="released")(DiagonalNormal(mean, logvar))
    return penalty.total


def moments(batch: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(batch, size, generator=generator)
    logvar = 0.5 * torch.randn(batch, size, generator=generator) - 1
    return mean.requires_grad_(), logvar.requires_grad_()


def seconds(function: Function, mean: Tensor, logvar: Tensor) -> float:
    start = time.perf_counter()
    torch.autograd.grad(function(mean, logvar), (mean, logvar))
    return time.perf_counter() - start


def compare(ours: Function, plain: Function, batch: int, size: int, repeats: int) -> tuple[float, float, float]:
    """Return the median ratio, and the median seconds of ours and of the plain way, after a warm-up."""
    mean, logvar = moments(batch, size)
    torch.testing.assert_close(ours(mean, logvar), plain(mean, logvar), rtol=1e-4, atol=1e-4)
    seconds(ours, mean, logvar)
    pairs = [(seconds(ours, mean, logvar), seconds(plain, mean, logvar)) for _ in range(repeats)]
    return median(o / p for o, p in pairs), median(o for o, _ in pairs), median(p for _, p in pairs)


def resident_bytes(when: str) -> int:
    """Return the resident memory of this process, ``"now"`` or at its ``"peak"``; the peak where only that is known."""
    # Not ru_maxrss on Linux: a child starts with its parent's.
    status = Path("/proc/self/status")
    if status.exists():
        field = {"now": "VmRSS:", "peak": "VmHWM:"}[when]
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def extra_bytes(function: Function, batch: int, size: int) -> int:
    """Return the peak beyond what a process holds that has libraries and threads loaded and the input ready."""
    seconds(function, *moments(16, 4))
    mean, logvar = moments(batch, size)
    before = resident_bytes("now")
    seconds(function, mean, logvar)
    return resident_bytes("peak") - before


def in_fresh_process(which: str) -> float:
    done = subprocess.run([sys.executable, __file__, "--memory-of", which], capture_output=True, text=True, check=True)
    return float(done.stdout) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object, name to ratio")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of measurements for each ratio")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    parser.add_argument("--memory-of", choices=["ours", "plain"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(extra_bytes(functional.diverse_paper if arguments.memory_of == "ours" else plain_paper, 1024, 64))
        return
    timed = {
        "released": compare(our_released, plain_released, 512, 32, arguments.repeats),
        "paper": compare(functional.diverse_paper, plain_paper, 1024, 64, arguments.repeats),
    }
    megabytes = in_fresh_process("ours")
    found = {**{name: ratio for name, (ratio, _, _) in timed.items()}, "paper_mb": megabytes}
    if arguments.json:
        print(json.dumps({name: round(value, 5) for name, value in found.items()}))
        return
    table = Table(title=f"Forward and backward, threads: {torch.get_num_threads()}")
    for heading in ("", "ours", "plain", "ratio", "at most"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, (ratio, ours, plain) in timed.items():
        table.add_row(name, f"{1e3 * ours:.1f} ms", f"{1e3 * plain:.0f} ms", f"{ratio:.4f}", f"{LIMITS[name]}")
    theirs = in_fresh_process("plain")
    sizes = (f"{value:.0f} MB" for value in (megabytes, theirs))
    table.add_row("paper_mb", *sizes, f"{megabytes / theirs:.4f}", f"{LIMITS['paper_mb']:.0f} MB")
    Console().print(table)


if __name__ == "__main__":
    main()
