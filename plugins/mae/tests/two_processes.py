"""Compute MAE's loss and gradients on one global batch, in one process and in two: ``two_processes.py FOLDER``.

Leaves ``FOLDER/1.pt`` and ``FOLDER/2.pt``: the loss over the global batch, the penalty's terms, and the gradient of
every parameter.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from uncollapse.decoders import MLPDecoder
from uncollapse.distributions import DiagonalNormal
from uncollapse.encoders import MLPEncoder
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.priors import StandardNormalPrior
from uncollapse_mae import MutualDivergence

BATCH, LATENT, SHAPE = 24, 6, (1, 4, 4)


class KnownNoise(DiagonalNormal):
    """A diagonal Gaussian that is sampled with noise handed in, so that processes draw what one would."""

    noise: Tensor

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return (self.mean + self.noise * self.stddev).expand(*sample_shape, *self.mean.shape)


class Posterior(nn.Module):
    latent_shape = (LATENT,)

    def __init__(self, features: int, noise: Tensor) -> None:
        super().__init__()
        self.head, self.noise = nn.Linear(features, 2 * LATENT), noise

    def forward(self, h: Tensor, progress: object = None) -> KnownNoise:
        q = KnownNoise(*self.head(h).chunk(2, dim=1))
        q.noise = self.noise
        return q


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.manual_seed(0)
    x, noise = torch.bernoulli(torch.full((BATCH, *SHAPE), 0.3)), torch.randn(BATCH, LATENT)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    encoder = MLPEncoder(SHAPE, (16,))
    model = LatentVariableModel(
        encoder,
        Posterior(encoder.feature_shape[0], noise[share]),
        StandardNormalPrior((LATENT,)),
        MLPDecoder((LATENT,), SHAPE, BernoulliLikelihood(SHAPE), (16,)),
    )
    wrapped = DistributedDataParallel(model) if world > 1 else model
    inference = wrapped(x[share])
    penalty = MutualDivergence(eta=1.0, gamma=0.5)(inference)
    loss = (inference.distortion + inference.rate()).mean() + penalty.total
    loss.backward()
    total = loss.detach().clone()
    if world > 1:
        torch.distributed.all_reduce(total)
        torch.distributed.destroy_process_group()
    if rank == 0:
        grads = {name: p.grad for name, p in model.named_parameters()}
        terms = {name: t.detach() for name, t in penalty.terms.items()}
        torch.save({"loss": total / world, "terms": terms, "grads": grads}, folder / f"{world}.pt")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    both = torch.multiprocessing.spawn(work, (2, folder), nprocs=2, join=False)
    work(0, 1, folder)
    while not both.join():
        pass
