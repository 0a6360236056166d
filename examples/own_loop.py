"""MAE's penalty in a loop of your own: nothing of uncollapse but one object and its call.

A small VAE, written plainly, on scikit-learn's digits: once as it is, once with the penalty. The three lines that MAE
adds or changes are numbered. Ma et al., MAE (2019), eq. 7, https://arxiv.org/abs/1901.01498.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from uncollapse_mae import MutualDivergence  # 1

LATENT, BATCH, EPOCHS = 8, 100, 20


class VAE(nn.Module):
    """A Gaussian posterior and a Bernoulli likelihood, two layers each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x: Tensor) -> tuple[Normal, Bernoulli]:
        """Return ``q(z|x)`` and ``p(x|z)`` of one draw, for ``x [B, 64]``."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        q = Normal(mean, (0.5 * logvar).exp())
        return q, Bernoulli(logits=self.decoder(q.rsample()))


def train(images: Tensor, eta: float, gamma: float) -> dict[str, float]:
    """Return the last epoch's averages, in nats per example."""
    torch.manual_seed(0)
    vae = VAE()
    mutual_divergence = MutualDivergence(eta, gamma)  # 2
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    prior = Normal(0.0, 1.0)
    for _ in range(EPOCHS):
        sums = {"distortion": 0.0, "rate": 0.0, "mutual_posterior_divergence": 0.0}
        # Batches of equal size, so that every step sees the same number of pairs.
        batches = torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH)
        for batch in batches:
            x = torch.bernoulli(images[batch])
            q, p = vae(x)
            distortion = -p.log_prob(x).sum(1).mean()
            rate = kl_divergence(q, prior).sum(1).mean()
            penalty = mutual_divergence(q)
            loss = distortion + rate + penalty.total  # 3
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            terms = {"distortion": distortion, "rate": rate, **penalty.terms}
            sums = {name: total + terms[name].item() / len(batches) for name, total in sums.items()}
    return sums


def main() -> dict[str, dict[str, float]]:
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    runs = {"vae": train(images, eta=0.0, gamma=0.0), "mae": train(images, eta=2.0, gamma=0.1)}
    for name, numbers in runs.items():
        print(name, *(f"{key} {value:.2f}" for key, value in numbers.items()), sep="   ")
    return runs


if __name__ == "__main__":
    main()
