"""VAEs of binary images and of texts whose posterior follows from counts: exact moments, by quadrature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gallery_linear import RIGHT, Spoiled
from torch import Tensor, nn
from torch.distributions import Bernoulli
from uncollapse import Batch
from uncollapse_diagnosis import Adapter

PADDING, WORDS = 12, 6


def posterior_moments(slope: float, most: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of ``p(z | s of n coins show heads)``, ``[most + 1, most + 1]`` by ``n`` and ``s``, for a
    standard Gaussian ``z`` and heads with probability ``sigmoid(slope z)``.
    """
    z = torch.linspace(-8, 8, 801, dtype=torch.float64)
    n, s = torch.arange(most + 1)[:, None, None], torch.arange(most + 1)[None, :, None]
    log_p = -0.5 * z.square() + s * F.logsigmoid(slope * z) + (n - s).clamp(min=0) * F.logsigmoid(-slope * z)
    p = log_p.softmax(2)
    mean = (p * z).sum(2)
    return mean.float(), ((p * z.square()).sum(2) - mean.square()).float()


class Counted(nn.Module):
    """Every dimension of the latent tosses the coins of its own group with probability ``sigmoid(slope z_d)``."""

    def __init__(self, slopes: list[float], most: int, spoiled: Spoiled) -> None:
        super().__init__()
        self.slopes, self.spoiled = torch.tensor(slopes), spoiled
        tables = [posterior_moments(slope, most) for slope in slopes]
        self.means, self.variances = (torch.stack(t) for t in zip(*tables, strict=True))

    def encode(self, counts: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance ``[B, D]`` for counts ``[B, D]``."""
        dimension = torch.arange(len(self.slopes))
        mean, variance = (t[dimension, counts, heads] for t in (self.means, self.variances))
        mean, variance = self.spoiled.moments(mean, variance)
        return mean, variance.log()

    def logits(self, z: Tensor) -> Tensor:
        """Return the coins' logits ``[B, D]`` for ``z [B, D]``."""
        if self.spoiled.decoder == "ignores":
            return 0.0 * z
        return self.slopes * self.spoiled.undone(z)


class TutorialVAE(Counted):
    """Binary images ``[1, 8, 8]`` of which each dimension rules some rows; ``encode`` and ``decode`` as in tutorials."""

    def __init__(self, slopes: list[float], spoiled: Spoiled) -> None:
        super().__init__(slopes, 64 // len(slopes), spoiled)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heads = x.reshape(len(x), len(self.slopes), -1).sum(2).long()
        return self.encode(torch.full_like(heads, 64 // len(self.slopes)), heads)

    def decode(self, z: Tensor) -> Tensor:
        """Return pixel probabilities ``[B, 1, 8, 8]``."""
        each = self.logits(z).sigmoid().repeat_interleave(64 // len(self.slopes), 1)
        return each.reshape(-1, 1, 8, 8)


def images(slopes: list[float], spoiled: Spoiled = RIGHT, count: int = 300) -> tuple[Adapter, Tensor]:
    """Return a tutorial's VAE with a Bernoulli likelihood, and images drawn from it."""
    right = TutorialVAE(slopes, Spoiled())
    x = torch.bernoulli(right.decode(torch.randn(count, len(slopes))))
    vae = TutorialVAE(slopes, spoiled)
    return Adapter(vae.posterior, likelihood=lambda z: Bernoulli(vae.decode(z)), module=vae), x


class TextVAE(Counted):
    """Texts of 20 to 28 words of a vocabulary of 12, with padding. Position ``t`` belongs to dimension ``t mod D``, which
    decides between the vocabulary's odd and even words; which of them it is, is chance.
    """

    def __init__(self, slopes: list[float], spoiled: Spoiled) -> None:
        super().__init__(slopes, 28 // len(slopes), spoiled)

    def posterior(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        size = len(self.slopes)
        counts = mask.long().reshape(len(x), -1, size).sum(1)
        heads = (mask & (x % 2 == 1)).long().reshape(len(x), -1, size).sum(1)
        return self.encode(counts, heads)

    def log_likelihood(self, x: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        logits = self.logits(z).repeat(1, x.shape[1] // len(self.slopes))
        coins = -F.binary_cross_entropy_with_logits(logits, (x % 2).float(), reduction="none")
        return ((coins - torch.tensor(float(WORDS)).log()) * mask).sum(1)


def texts(slopes: list[float], spoiled: Spoiled = RIGHT, count: int = 300) -> tuple[Adapter, Batch]:
    """Return a VAE of texts that is given masks, and texts drawn from it."""
    z = torch.randn(count, len(slopes))
    odd = torch.bernoulli((torch.tensor(slopes) * z).sigmoid().repeat(1, 28 // len(slopes))).long()
    x = 2 * torch.randint(WORDS, odd.shape) + odd
    mask = torch.arange(28) < torch.randint(20, 29, (count, 1))
    vae = TextVAE(slopes, spoiled)
    adapter = Adapter(vae.posterior, log_likelihood=vae.log_likelihood, module=vae)
    return adapter, Batch(torch.where(mask, x, PADDING), mask=mask)
