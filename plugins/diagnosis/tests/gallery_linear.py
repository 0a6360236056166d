"""Linear VAEs whose posterior, rate and information are known in closed form: vectors, real digits, spatial latents."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal
from uncollapse.distributions import DiagonalNormal
from uncollapse.model import LatentVariableModel
from uncollapse.priors import StandardNormalPrior
from uncollapse_diagnosis import Adapter


@dataclass(frozen=True)
class Spoiled:
    """What is done to a model whose parts are right.

    Args:
        encoder: ``right``; ``prior``: the prior for every x; ``shrunk``: a tenth of the mean, the prior's variance;
            ``rolled``: every dimension gets the code of its neighbor; ``constant``: one narrow posterior away from the
            prior for every x.
        decoder: ``right``; ``ignores``: it does not read z; ``unrelated``: it reads z and says nothing of x.
        stretch: Codes are so many times as far apart, and the decoder undoes it.
        shift: Codes are so far from the prior, and the decoder undoes it.
        variance: Factor on the posterior's variance, before stretching.
    """

    encoder: str = "right"
    decoder: str = "right"
    stretch: float = 1.0
    shift: float = 0.0
    variance: float = 1.0

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        variance = variance.expand_as(mean)
        if self.encoder == "prior":
            mean, variance = torch.zeros_like(mean), torch.ones_like(variance)
        elif self.encoder == "shrunk":
            mean, variance = 0.1 * mean, torch.ones_like(variance)
        elif self.encoder == "rolled":
            mean, variance = mean.roll(1, 1), variance.roll(1, 1)
        elif self.encoder == "constant":
            mean, variance = torch.full_like(mean, 3.0), torch.full_like(variance, 0.1)
        return mean * self.stretch + self.shift, variance * self.variance

    def undone(self, z: Tensor) -> Tensor:
        return (z - self.shift) / self.stretch


RIGHT = Spoiled()
NEEDLES = Spoiled(stretch=20.0, variance=1e-4)


class LinearVAE(nn.Module):
    """``x = basis (weights z) + noise`` with orthonormal columns, so that the posterior is diagonal: Tipping and Bishop
    (1999). ``I(x; z_d) = log(1 + weights_d² / noise²) / 2``.
    """

    def __init__(self, basis: Tensor, weights: Tensor, noise: float, spoiled: Spoiled, data_variance: float) -> None:
        super().__init__()
        self.basis, self.weights, self.noise, self.spoiled = basis, weights, noise, spoiled
        self.data_variance = data_variance
        self.latent_shape: tuple[int, ...] = (len(weights),)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance ``[B, D]``."""
        precision = 1 + self.weights.square() / self.noise**2
        mean = (x @ self.basis) * self.weights / self.noise**2 / precision
        return self.spoiled.moments(mean, 1 / precision)

    def decode(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)`` for ``z [..., D]``."""
        z = self.spoiled.undone(z)
        if self.spoiled.decoder == "right":
            center, scale = (z * self.weights) @ self.basis.T, self.noise
        elif self.spoiled.decoder == "ignores":
            center, scale = torch.zeros(*z.shape[:-1], len(self.basis)), self.data_variance**0.5
        else:
            # Along directions that the data's code does not move, weakly, and with the noise that this leaves.
            other = torch.linalg.qr(torch.cat([self.basis, torch.eye(len(self.basis))], 1))[0]
            unrelated = other[:, len(self.weights) : 2 * len(self.weights)]
            scale = self.data_variance**0.5
            center = 0.3 * scale * z @ unrelated.T
        return Independent(Normal(center, scale), 1)


class _Posterior(nn.Module):
    def __init__(self, vae: LinearVAE) -> None:
        super().__init__()
        self.latent_shape = vae.latent_shape

    def forward(self, h: Tensor, progress: Any = None) -> Distribution:
        mean, variance = h.chunk(2, 1)
        return DiagonalNormal(mean, variance.log())


class _Encoder(nn.Module):
    def __init__(self, vae: LinearVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.vae.encode(x), 1)


class _Decoder(nn.Module):
    def __init__(self, vae: LinearVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor) -> Distribution:
        return self.vae.decode(z)


def vectors(
    weights: list[float], spoiled: Spoiled = RIGHT, count: int = 300, features: int = 24
) -> tuple[LatentVariableModel, Tensor]:
    """Return one of the project's own models, and vectors drawn from it; noise 1."""
    wide = torch.tensor(weights)
    basis = torch.linalg.qr(torch.randn(features, len(wide)))[0]
    x = (torch.randn(count, len(wide)) * wide) @ basis.T + torch.randn(count, features)
    vae = LinearVAE(basis, wide, 1.0, spoiled, float(x.var()))
    return LatentVariableModel(_Encoder(vae), _Posterior(vae), StandardNormalPrior(vae.latent_shape), _Decoder(vae)), x


def correlated() -> tuple[Adapter, Tensor]:
    """Return a linear VAE whose columns are not orthogonal: its exact posterior has a full covariance."""
    mixing = torch.randn(16, 3)
    x = torch.randn(300, 3) @ mixing.T + torch.randn(300, 16)
    covariance = torch.linalg.inv(torch.eye(3) + mixing.T @ mixing)
    adapter = Adapter(
        posterior=lambda x: MultivariateNormal(x @ mixing @ covariance, covariance.expand(len(x), 3, 3)),
        likelihood=lambda z: Normal(z @ mixing.T, 1.0),
    )
    return adapter, x


def clustered() -> tuple[Adapter, Tensor]:
    """Return a VAE whose prior has two clusters, which the codes fill: far from a standard Gaussian, near its prior."""
    centers = torch.tensor([[-4.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]])
    prior = MixtureSameFamily(Categorical(torch.ones(2)), Independent(Normal(centers, torch.ones(2, 4)), 1))
    basis = 4 * torch.linalg.qr(torch.randn(12, 4))[0]
    x = prior.sample((300,)) @ basis.T + torch.randn(300, 12)
    adapter = Adapter(
        posterior=lambda x: Normal(x @ basis / 16, torch.full((len(x), 4), 0.25)),
        likelihood=lambda z: Normal(z @ basis.T, 1.0),
        prior=prior,
    )
    return adapter, x


def digits(latent: int, noise_between: int | None, count: int = 300) -> tuple[Adapter, Tensor]:
    """Return the optimum of a linear VAE on real digits with a fixed noise: Lucas et al., Don't Blame the ELBO (2019),
    https://arxiv.org/abs/1911.02469. Dimensions whose eigenvalue lies below the noise are collapsed there.

    Args:
        latent: Dimensions.
        noise_between: The noise lies between this eigenvalue and the next (0: above all); None: what the best linear
            model would learn, the mean of those left out.
        count: Images, drawn at random.
    """
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    images = images - images.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(images.T))
    values, vectors = values.flip(0), vectors.flip(1)
    if noise_between is None:
        variance = float(values[latent:].mean())
    elif noise_between == 0:
        variance = 1.5 * float(values[0])
    else:
        variance = float((values[noise_between - 1] * values[noise_between]).sqrt())
    weights = (values[:latent] - variance).clamp(min=0).sqrt()
    vae = LinearVAE(vectors[:, :latent].contiguous(), weights, variance**0.5, Spoiled(), 1.0)
    x = images[torch.randperm(len(images))[:count]].reshape(-1, 1, 8, 8)

    def posterior(x: Tensor) -> Any:
        mean, variance = vae.encode(x.flatten(1))
        return mean, variance.log()

    return Adapter(posterior, log_likelihood=lambda x, z: vae.decode(z).log_prob(x.flatten(1))), x


def spatial(weights: list[float], spoiled: Spoiled = RIGHT, count: int = 300) -> tuple[Adapter, Tensor]:
    """Return a VAE of latent diffusion's shape: latents ``[4, 4, 4]`` of images ``[3, 8, 8]``, one linear code of every
    2×2 patch, and a posterior object with ``mean``, ``logvar``, ``std`` and ``var`` that is no torch distribution.
    """
    wide = torch.tensor(weights)
    basis = torch.linalg.qr(torch.randn(12, len(wide)))[0]
    fold, unfold = nn.Fold((8, 8), 2, stride=2), nn.Unfold(2, stride=2)
    patches = (torch.randn(count, 16, len(wide)) * wide) @ basis.T + torch.randn(count, 16, 12)
    x = fold(patches.mT)
    vae = LinearVAE(basis, wide, 1.0, spoiled, float(x.var()))

    def posterior(x: Tensor) -> Any:
        mean, variance = vae.encode(unfold(x).mT.reshape(-1, 12))
        mean, variance = (t.reshape(len(x), 16, -1).mT.reshape(len(x), -1, 4, 4) for t in (mean, variance))
        gaussian = SimpleNamespace(mean=mean, logvar=variance.log(), var=variance, std=variance.sqrt())
        return SimpleNamespace(latent_dist=gaussian)

    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        codes = z.flatten(2).mT.reshape(-1, z.shape[1])
        return vae.decode(codes).log_prob(unfold(x).mT.reshape(-1, 12)).reshape(len(x), 16).sum(1)

    return Adapter(posterior, log_likelihood=log_likelihood), x
