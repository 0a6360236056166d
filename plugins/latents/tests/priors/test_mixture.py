import math

import pytest
import torch
from pydantic import ValidationError
from torch.distributions import Categorical, Distribution, Independent, Laplace, MixtureSameFamily, Normal
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal, analytic_kl
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from uncollapse_latents.priors import GaussianMixturePrior, Mixture
from uncollapse_latents.priors import mixture as module

K, D = 5, 3


def mixtures(weighted: bool = True) -> tuple[Mixture, MixtureSameFamily]:
    mean, logvar = torch.randn(2, K, D, dtype=torch.float64)
    logits = torch.randn(K, dtype=torch.float64) if weighted else torch.zeros(K, dtype=torch.float64)
    ours = Mixture(DiagonalNormal(mean, logvar), logits.log_softmax(0) if weighted else None)
    torchs = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, (0.5 * logvar).exp()), 1))
    return ours, torchs


@pytest.mark.parametrize("weighted", [True, False])
def test_density_and_moments_are_torch_s(weighted):
    ours, torchs = mixtures(weighted)
    z = 2 * torch.randn(4, 6, D, dtype=torch.float64)
    assert (ours.batch_shape, ours.event_shape) == (torch.Size(), (D,))
    assert_close(ours.log_prob(z), torchs.log_prob(z))
    assert_close(ours.log_prob(z[0, 0]), torchs.log_prob(z[0, 0]))
    assert_close(ours.mean, torchs.mean)
    assert_close(ours.variance, torchs.variance)


def test_density_far_out_neither_under_nor_overflows():
    ours, _ = mixtures()
    z = torch.full((D,), 1e4, dtype=torch.float64, requires_grad=True)
    log_prob = ours.log_prob(z)
    log_prob.backward()
    assert bool(torch.isfinite(log_prob))
    assert bool(torch.isfinite(z.grad).all())


def test_density_in_blocks_is_the_same(monkeypatch):
    ours, _ = mixtures()
    z = torch.randn(4, 7, D, dtype=torch.float64)
    expected = ours.log_prob(z)
    sizes = []
    whole = ours._log_prob
    monkeypatch.setattr(ours, "_log_prob", lambda block: (sizes.append(len(block)), whole(block))[1])
    monkeypatch.setattr(module, "_BLOCK", 5 * K * D + 1)
    assert_close(ours.log_prob(z), expected)
    assert sizes == [5, 5, 5, 5, 5, 3]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("gaussian", [True, False])
def test_samples_have_each_component_with_its_weight(weighted, gaussian):
    # Components that lie far apart and are of different widths, so a sample says whose it is.
    centres = 100 * torch.arange(4.0)[:, None].expand(4, 2)
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None].expand(4, 2)
    log_weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).log() if weighted else None
    components: Distribution
    if gaussian:
        components = DiagonalNormal(centres, 2 * scale.log())
    else:
        components = Independent(Laplace(centres, scale / math.sqrt(2)), 1)
    torch.manual_seed(0)
    z = Mixture(components, log_weights).sample((100, 300))
    assert z.shape == (100, 300, 2)
    z = z.flatten(0, 1)
    owner = (z[:, 0] / 100).round().long()
    assert_close(owner, (z[:, 1] / 100).round().long())
    shares = torch.bincount(owner, minlength=4) / len(z)
    expected = torch.full((4,), 0.25) if log_weights is None else log_weights.exp()
    assert_close(shares, expected, rtol=0, atol=0.015)
    for k in range(4):
        assert_close(z[owner == k].std(0), scale[k], rtol=0.05, atol=0)
    # In random order: the first half is distributed as the whole.
    half = torch.bincount(owner[:15_000], minlength=4) / 15_000
    assert_close(half, expected, rtol=0, atol=0.02)


def test_sample_of_no_shape_and_of_spatial_events():
    components = DiagonalNormal(torch.zeros(K, 2, 3, 3), torch.zeros(K, 2, 3, 3), event_dim=3)
    p = Mixture(components)
    assert p.sample().shape == (2, 3, 3)
    assert p.log_prob(p.sample((4,))).shape == (4,)


def test_gaussian_mixture_prior_learns_everything():
    prior = GaussianMixturePrior((2, 3), components=4)
    assert {n: tuple(p.shape) for n, p in prior.named_parameters()} == {
        "mean": (4, 2, 3), "logvar": (4, 2, 3), "logits": (4,)
    }  # fmt: skip
    with torch.no_grad():
        prior.logits.copy_(torch.arange(4.0))
        prior.logvar.normal_()
    z = torch.randn(5, 2, 3)
    torchs = MixtureSameFamily(
        Categorical(logits=torch.arange(4.0)), Independent(Normal(prior.mean, (0.5 * prior.logvar).exp()), 2)
    )
    assert_close(prior().log_prob(z), torchs.log_prob(z))
    prior().log_prob(z).sum().backward()
    assert all(bool(p.grad.any()) for p in prior.parameters())
    assert not prior().sample((3,)).requires_grad


def test_gaussian_mixture_prior_starts_uniform_and_spread():
    torch.manual_seed(0)
    prior = GaussianMixturePrior((8,), components=2000, spread=3.0)
    assert_close(prior().log_weights.exp(), torch.full((2000,), 1 / 2000))
    assert_close(prior.mean.std(), torch.tensor(3.0), rtol=0.02, atol=0)
    assert not bool(prior.logvar.any())


def test_weights_may_stay_uniform():
    prior = GaussianMixturePrior((2,), components=4, learn_weights=False)
    assert set(prior.state_dict()) == {"mean", "logvar"}
    assert prior().log_weights is None


def test_a_mixture_fits_two_clusters_by_maximum_likelihood():
    torch.manual_seed(0)
    z = torch.cat([torch.randn(300, 2) * 0.3 + 2, torch.randn(100, 2) * 0.3 - 2])
    prior = GaussianMixturePrior((2,), components=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (-prior().log_prob(z).mean()).backward()
        optimizer.step()
    p = prior()
    right = int(p.components.mean[:, 0].argmax())
    assert_close(p.components.mean[right].detach(), torch.tensor([2.0, 2.0]), rtol=0, atol=0.1)
    assert_close(p.log_weights.exp()[right].detach(), torch.tensor(0.75), rtol=0, atol=0.03)


def test_there_is_no_analytic_rate():
    q = DiagonalNormal(torch.zeros(6, 2), torch.zeros(6, 2))
    assert analytic_kl(q, GaussianMixturePrior((2,))()) is None


def test_config():
    found = registry().find("prior", "gaussian_mixture")
    context = BuildContext(DataSpec((4,), "real"), latent_shape=(3, 2, 2))
    prior = found.model_validate({"type": "gaussian_mixture", "components": 6, "learn_weights": False}).build(context)
    assert prior.mean.shape == (6, 3, 2, 2)
    assert prior.logits is None
    for fields in ({"components": 0}, {"spread": 0}, {"component": 3}):
        with pytest.raises(ValidationError):
            found.model_validate(fields)
