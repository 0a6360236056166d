"""Against reference numbers made by running the released code, and by closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from numpy.random import RandomState
from numpy.testing import assert_allclose
from torch import Tensor, nn
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, standard_normal
from uncollapse.protocols import Progress
from uncollapse_duvae import BatchNormalizedMeans, VarianceDropout, VarianceFloor, functional
from uncollapse_latents.flows import GatedStep
from uncollapse_latents.posteriors import InverseAutoregressivePosterior
from uncollapse_measures.estimators import pair_statistics

WARMUP = Progress(step=0, steps_per_epoch=100)
"""The first step of a run whose floor and dropout wait for the end of a warm-up."""


def double(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------------- normalized means


@pytest.mark.parametrize("name", ["small", "big"])
@pytest.mark.parametrize("rescale", ["after_update", "each_forward"])
def test_normalized_means(oracle: Any, name: str, rescale: str) -> None:
    reference = oracle("duvae_bn_mean")
    inputs, expected, rtol = reference["inputs"][name], reference["expected"][name], reference["rtol"]

    def agrees(found: Tensor, key: str) -> None:
        assert_allclose(found.detach().numpy(), expected[key], rtol=rtol, atol=1e-10, err_msg=key)

    size = len(inputs["bn_weight_before"])
    transform = BatchNormalizedMeans((size,), inputs["gamma"], rescale, inputs["bn_momentum"], inputs["bn_eps"])
    transform.double()
    with torch.no_grad():
        transform.weight.copy_(double(inputs["bn_weight_before"]))
        transform.bias.copy_(double(inputs["bn_bias"]))
    floor = VarianceFloor(from_epoch=1.0)
    mean, logvar = double(inputs["encoder_output_train"]).chunk(2, dim=1)
    agrees(transform(mean, logvar)[0], "mu_hat_train")
    agrees(floor(mean, logvar, Progress(final=True))[1], "logvar_floored_train")
    # The released encoders with normalized means have no floor while the weight of the rate is below 1.
    agrees(floor(mean, logvar, WARMUP)[1], "logvar_when_kl_weight_lt_1 (no floor)")
    agrees(transform.weight, "bn_weight_after_rescale")
    agrees(transform.weight.square().mean().sqrt(), "rms_weight_after")
    agrees(transform.running_mean, "running_mean_after_1_step")
    agrees(transform.running_var, "running_var_after_1_step")
    transform.eval()
    mean, logvar = double(inputs["encoder_output_eval"]).chunk(2, dim=1)
    agrees(transform(mean, logvar)[0], "mu_hat_eval")
    agrees(floor(mean, logvar)[1], "logvar_floored_eval")


# ----------------------------------------------------------------------------------------------------------- variances


def rate(mean: Tensor, logvar: Tensor) -> Tensor:
    return kl_per_dimension(DiagonalNormal(mean, logvar), standard_normal((mean.shape[1],))).sum(1)


@pytest.mark.parametrize("name", ["p_drop0.2", "p_drop0.1_big", "p_drop0.5"])
def test_dropped_variances(oracle: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = oracle("duvae_var_dropout")
    inputs, expected, rtol = reference["inputs"][name], reference["expected"][name], reference["rtol"]

    def agrees(found: Tensor, key: str) -> None:
        assert_allclose(found.numpy(), expected[key], rtol=rtol, atol=1e-10, err_msg=key)

    mean, logvar, kept = (double(inputs[key]) for key in ("mu", "logvar_raw", "keep_mask"))
    noise = double(inputs["eps"])
    assert inputs["alpha"] == pytest.approx(functional.FLOOR)
    assert expected["var_when_dropped"] == pytest.approx(functional.FLOOR)
    keep = 1 - inputs["p_drop"]
    monkeypatch.setattr(torch, "bernoulli", lambda p: kept if torch.all(p == keep) else pytest.fail("wrong p"))
    transform = VarianceDropout(keep, inputs["delta_rate"], from_epoch=1.0)
    floored = functional.floor_variance(logvar)
    agrees(floored, "logvar_after_floor")
    same, dropped = transform(mean, logvar, Progress(final=True))
    assert same is mean
    agrees(dropped.exp(), "var_after_dropout")
    agrees(rate(mean, dropped), "kl_train_per_sample")
    agrees((mean + noise[:, 0] * (0.5 * dropped).exp())[:, None], "z_train")
    assert_allclose(dropped.exp()[kept == 0], functional.FLOOR, rtol=1e-12)
    # During the released warm-up there is no dropout; this reference keeps the floor, as the plain encoders do.
    agrees(rate(mean, floored), "kl_warmup_per_sample(kl_weight<1: no dropout)")
    transform.eval()
    _, undropped = transform(mean, logvar)
    agrees(rate(mean, undropped), "kl_eval_per_sample")
    agrees((mean + noise[:, 0] * (0.5 * undropped).exp())[:, None], "z_eval")
    # The reference averages over masks that were drawn; the expectation is the floored variance.
    assert_allclose(expected["expected_var_over_masks"], floored.exp(), rtol=0.2)


# ------------------------------------------------------------------------------------------------------------ measures


@pytest.mark.parametrize("name", ["small", "big"])
def test_divergence_and_entropy(oracle: Any, name: str) -> None:
    reference = oracle("duvae_mpd_ce")
    inputs, expected, rtol = reference["inputs"][name], reference["expected"][name], reference["rtol"]

    def agrees(found: Any, key: str) -> None:
        assert_allclose(found, expected[key], rtol=rtol, atol=1e-10, err_msg=key)

    mean, logvar = double(inputs["mu"]), double(inputs["logvar"])
    entropy = functional.conditional_entropy(logvar)
    agrees(entropy, "code_CE_per_dim")
    agrees(entropy.sum(), "code_CE_total")
    agrees(entropy.sum(), "eq5_CE_total")
    # The core's estimator is eq. 2: the mean over ordered pairs is that of both directions.
    divergence, (count, dimensions) = pair_statistics(mean, logvar).per_dimension, mean.shape
    agrees(divergence, "skl_mean_offdiag_per_dim")
    # The released code counts the pairs of an example with itself, whose divergence is zero.
    released = divergence * (count - 1) / count
    agrees(released, "code_MPD_per_dim")
    # As printed, eq. 3 takes 1 off once, and not in every dimension.
    agrees(2 * released.sum() + dimensions - 1, "eq3_literal_2MPD_minus1_once")


def test_bound_under_dropout(oracle: Any) -> None:
    reference = oracle("kl_lower_bounds")
    inputs, expected = reference["inputs"]["bn_vae_example"], reference["expected"]
    bound = expected["du_vae_eq8_lower_bound"]
    mean, logvar = double(expected["bn_vae_example"]["mu_bn"]), double(inputs["logvar"])
    keep, variances = bound["keep_prob_p"], bound["sum_var_mu"]
    assert bound["alpha"] == pytest.approx(functional.FLOOR)
    assert mean.var(0, unbiased=False).sum().item() == pytest.approx(variances, rel=1e-6)
    found = functional.divergence_bound(variances, keep)
    assert found == pytest.approx(bound["mpd_lower_bound_(1-p)/alpha*sumVar"], rel=reference["rtol"])
    floor_entropy = functional.conditional_entropy(torch.full((1, 1), functional.FLOOR).log())
    assert floor_entropy.item() == pytest.approx(bound["min_dim_entropy_at_floor"], abs=1e-6)
    # The reference takes means and variances for independent: the average over every way to shift one set against the
    # other. Its variances stand above the floor by exp(logvar).
    floored = functional.floor_variance(logvar)
    shifted = [functional.divergence_under_dropout(mean, floored.roll(k, 0), keep).sum() for k in range(len(mean))]
    exact = torch.stack(shifted).mean().item()
    assert exact == pytest.approx(bound["expected_MPD_under_dropout (iid pair, masks averaged)"], rel=1e-6)
    assert exact > found


# -------------------------------------------------------------------------------------------------------------- DU-IAF


def du_iaf(inputs: Any, moments: list[nn.Module]) -> InverseAutoregressivePosterior:
    """The reference's two steps under a posterior whose features are its head's outputs."""
    state = {name: double(value) for name, value in inputs["state_dict"].items()}
    hidden, size = state["0.made.input_context_net.mask"].shape
    posterior = InverseAutoregressivePosterior((4 * size,), size, hidden=hidden, moments=moments)
    steps = []
    for prefix in ("0.", "2."):
        random = RandomState(0)
        degrees = [torch.from_numpy(random.randint(1, size, size=hidden)) for _ in range(2)]
        step = GatedStep(size, hidden, context=2 * size, degrees=degrees)
        for layer, name in zip(step.made.layers, ("input_context_net", "net.1", "net.3"), strict=True):
            layer.weight.data = state[f"{prefix}made.{name}.linear.weight"]
            layer.bias.data = state[f"{prefix}made.{name}.linear.bias"]
        step.made.context.weight.data = state[f"{prefix}made.input_context_net.cond_linear.weight"]
        steps.append(step)
    posterior.head, posterior.steps = nn.Identity(), nn.ModuleList(steps)
    return posterior.double()


def test_du_iaf_is_the_released_flow_over_normalized_and_floored_moments(
    oracle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = oracle("duvae_iaf")
    inputs, expected, rtol = reference["inputs"], reference["expected"], reference["rtol"]

    def agrees(found: Tensor, key: str) -> None:
        assert_allclose(found.detach().numpy(), expected[key], rtol=rtol, atol=1e-10, err_msg=key)

    loc, scale, context = (double(inputs[key])[:, 0] for key in ("loc", "scale", "context"))
    size = loc.shape[1]
    normalize = BatchNormalizedMeans((size,), gamma=0.6, eps=1e-8).double()
    with torch.no_grad():
        normalize.weight.copy_(torch.linspace(0.3, 1.2, size))
        normalize.bias.copy_(torch.linspace(-1.0, 1.0, size))
        normalize.running_mean.fill_(0.7)
        normalize.running_var.fill_(2.5)
    posterior = du_iaf(inputs, [normalize, VarianceDropout(keep=0.7)]).eval()
    # The head's outputs that lead to the reference's base: through running statistics, and below the floor.
    weight = normalize.weight.detach() * 0.6 / normalize.weight.detach().square().mean().sqrt()
    raw = (loc - normalize.bias.detach()) / weight * (2.5 + 1e-8) ** 0.5 + 0.7
    above = scale.square() - functional.FLOOR
    assert (above > 0).all()
    argument = above.sqrt().expm1().log()
    h = torch.cat([raw, argument, context], 1)
    q = posterior(h)
    z0 = double(inputs["z0"]).transpose(0, 1)
    z = q.transform.inv(z0)
    agrees(z.transpose(0, 1), "zT")
    agrees(q.log_prob(z).T, "log_q_zT_total")
    # Released: dropout on softplus², then the floor.
    kept = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64).expand(len(loc), size)
    monkeypatch.setattr(torch, "bernoulli", lambda p: kept if torch.all(p == 0.7) else pytest.fail("wrong p"))
    dropped = posterior.train()(h).base.variance
    assert_allclose(dropped.numpy(), (above * kept / 0.7 + functional.FLOOR).numpy(), rtol=1e-10)
    assert_allclose(dropped[:, 1], functional.FLOOR, rtol=1e-12)
