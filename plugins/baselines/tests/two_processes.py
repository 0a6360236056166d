"""A loss of batch-normalized means and its gradients, in one process and in two: ``two_processes.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from uncollapse_baselines import BatchNormMeans

BATCH = 12


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Linear(5, 3), BatchNormMeans((3,), 0.6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, _ = self.norm(self.head(x), torch.zeros(len(x), 3))
        return (mean.sin() * x[:, :3]).sum(1).mean()


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.manual_seed(0)
    network, x = Network().double(), torch.randn(BATCH, 5, dtype=torch.float64)
    share = x[rank * BATCH // world : (rank + 1) * BATCH // world]
    wrapped = DistributedDataParallel(network) if world > 1 else network  # Kept: its hooks end with it.
    loss = wrapped(share)
    loss.backward()
    total = loss.detach().clone()
    if world > 1:
        torch.distributed.all_reduce(total)
        # Neither goes while the other still talks to it, and what talks goes first.
        torch.distributed.barrier()
        del wrapped
        torch.distributed.destroy_process_group()
    if rank == 0:
        found = {"loss": total / world, "beta": network.norm.beta.grad, **dict(network.norm.named_buffers())}
        found.update({f"head.{name}": p.grad for name, p in network.head.named_parameters()})
        torch.save(found, folder / f"{world}.pt")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    both = torch.multiprocessing.spawn(work, (2, folder), nprocs=2, join=False)
    work(0, 1, folder)
    while not both.join():
        pass
