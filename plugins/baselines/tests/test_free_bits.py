"""Free bits under groups against brute force, and soft ones against the weight's rule."""

from __future__ import annotations

import pytest
import torch
from uncollapse.config import BuildContext
from uncollapse.distributions import kl_per_dimension
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.objectives import ELBO, free_bits
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse_baselines import GroupFreeBits, GroupFreeBitsConfig, SoftFreeBits, functional
from uncollapse_latents.posteriors import InverseAutoregressivePosterior
from uncollapse_latents.priors import GaussianMixturePrior


def test_every_group_has_a_floor_of_its_own():
    rates = torch.rand(7, 4, 2, 3, dtype=torch.float64)
    expected = sum(
        max(sum(float(rates[b, c].sum()) for b in range(7)) / 7, 2.9) for c in range(4)
    )  # fmt: skip
    assert 4 * 2.9 < expected < rates.flatten(1).sum(1).mean() + 4
    torch.testing.assert_close(functional.group_free_bits(rates, 2.9, 4), torch.tensor(expected).double())
    # One group is a floor under the whole rate, and groups of one that of every dimension.
    torch.testing.assert_close(
        functional.group_free_bits(rates, 13.0, 1), free_bits(rates.flatten(1).sum(1), 13.0, "batch_total")
    )
    torch.testing.assert_close(functional.group_free_bits(rates, 0.5, 24), free_bits(rates, 0.5, "batch_per_dimension"))
    with pytest.raises(ShapeError, match="5 groups do not divide a latent of 24 dimensions"):
        functional.group_free_bits(rates, 1.0, 5)


def test_groups_below_their_floor_have_no_gradient():
    rates = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.3, 0.0, 0.4, 0.7]], requires_grad=True)
    functional.group_free_bits(rates, 0.5, 2).backward()
    assert rates.grad.tolist() == [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]


NOW = Progress()


def loss_of(objective, model, x, progress=NOW):
    torch.manual_seed(0)
    return objective(model, Batch(x), progress)


def test_the_objective_is_the_bound_with_floors(tiny_model, pixels):
    model, x = tiny_model(latent=4), pixels(6)
    found = loss_of(GroupFreeBits(5.0, 2, lambda progress: 0.25), model, x)
    plain = loss_of(ELBO(), model, x)
    rates = kl_per_dimension(model.infer(x), model.p_z())
    floored = functional.group_free_bits(rates, 5.0, 2)
    assert floored.item() == pytest.approx(10.0)
    torch.testing.assert_close(found.total, plain.terms["distortion"].mean() + 0.25 * floored)
    for name in ("elbo", "rate", "distortion"):
        torch.testing.assert_close(found.terms[name], plain.terms[name])
    at_end = loss_of(GroupFreeBits(5.0, 2), model, x, Progress.at_end())
    torch.testing.assert_close(at_end.total, plain.total)


def test_groups_must_divide_the_latent_and_need_a_rate_of_every_dimension(tiny_model, pixels):
    data = DataSpec((1, 2, 3), "binary")
    assert GroupFreeBitsConfig().build(BuildContext(data, (8, 2, 2))).groups == 8
    assert GroupFreeBitsConfig().build(BuildContext(data, (8,))).groups == 8
    with pytest.raises(ConfigError, match="3 groups do not divide a latent of 8 dimensions"):
        GroupFreeBitsConfig(groups=3).build(BuildContext(data, (8,)))
    mixture = tiny_model(latent=4)
    mixture.prior = GaussianMixturePrior((4,), 2).double()
    with pytest.raises(ConfigError, match="needs a rate of every dimension, but the posterior is DiagonalNormal"):
        loss_of(GroupFreeBits(5.0, 2), mixture, pixels(6))
    flow = tiny_model(latent=4, posterior=InverseAutoregressivePosterior((4,), 4, hidden=8))
    assert loss_of(GroupFreeBits(5.0, 2), flow, pixels(6)).total.isfinite()


def test_the_weight_steers_towards_the_target(tiny_model, pixels):
    model, x = tiny_model(), pixels(8)
    rate = ELBO()(model, Batch(x), NOW).terms["rate"].mean().item()
    for target, weight, expected in [
        (2 * rate, 0.5, 0.5 / 1.1),
        (rate / 2, 0.5, 0.55),
        (rate / 1.04, 0.5, 0.5),
        (rate / 2, 0.95, 1.0),
    ]:
        objective = SoftFreeBits(target).double()
        objective.weight.fill_(weight)
        loss = objective(model, Batch(x), NOW)
        # The weight of the step is the one before it was changed.
        terms = loss.terms
        torch.testing.assert_close(loss.total, terms["distortion"].mean() + weight * terms["rate"].mean())
        assert terms["soft_weight"].item() == weight
        assert objective.weight.item() == pytest.approx(expected)


def test_validation_neither_sees_nor_changes_the_weight(tiny_model, pixels):
    model, x, objective = tiny_model(), pixels(8), SoftFreeBits(100.0).double()
    objective.weight.fill_(0.2)
    objective.eval()
    with torch.no_grad():
        loss = loss_of(objective, model, x, Progress.at_end())
        torch.testing.assert_close(loss.total, loss_of(ELBO(), model, x).total)
    assert objective.weight.item() == pytest.approx(0.2)
    assert list(objective.state_dict()) == ["weight"]


def test_training_reaches_the_target_where_the_bound_collapses():
    # A rate that the plain objective drives to 0, a tenth of the way in each step, and a weight that holds it at 3.
    objective, rate = SoftFreeBits(3.0), 8.0
    for _ in range(400):
        objective._steer(torch.tensor(rate))
        # Distortion pulls up with force 0.5, the rate down with its weight.
        rate = max(0.0, rate + 0.1 * (0.5 - float(objective.weight)))
    assert rate == pytest.approx(3.0, rel=0.15)
