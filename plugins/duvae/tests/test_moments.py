"""Batch-normalized means, floor and dropout: what they fix, when they work, and what they leave alone."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import DataSpec, Progress
from uncollapse.schedules import LinearSchedule
from uncollapse_duvae import (
    BatchNormalizedMeans,
    BatchNormalizedMeansConfig,
    VarianceDropout,
    VarianceDropoutConfig,
    VarianceFloor,
    VarianceFloorConfig,
    functional,
)
from uncollapse_latents.posteriors import InverseAutoregressivePosterior

CONTEXT = BuildContext(DataSpec((4,), "real"), (3,), (5,), steps_per_epoch=10, epochs=12)


@pytest.fixture
def moments() -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(64, 3) + 1, torch.randn(64, 3) - 1


def rms(weight: Tensor) -> float:
    return weight.detach().square().mean().sqrt().item()


# ---------------------------------------------------------------------------------------------------- normalized means


def test_the_sum_of_variances_is_fixed_and_single_ones_are_not(moments: Any) -> None:
    transform = BatchNormalizedMeans((3,), gamma=0.6)
    with torch.no_grad():
        transform.weight.copy_(torch.tensor([3.0, 0.0, 4.0]))
    mean, logvar = transform(*moments)
    variances = mean.var(0, unbiased=False)
    assert variances.sum().item() == pytest.approx(3 * 0.36, rel=1e-3)
    assert variances[1].item() == pytest.approx(0.0, abs=1e-9)
    assert (variances[2] / variances[0]).item() == pytest.approx(16 / 9, rel=1e-3)
    assert logvar is moments[1]


@pytest.mark.parametrize("rescale", ["after_update", "each_forward"])
def test_scales_are_rescaled_after_every_update(moments: Any, rescale: str) -> None:
    transform = BatchNormalizedMeans((3,), 0.5, rescale)
    optimizer = torch.optim.SGD(transform.parameters(), lr=0.1)
    target = torch.tensor([2.0, -1.0, 0.1])
    for _ in range(5):
        mean, _ = transform(*moments)
        assert rms(transform.weight) == pytest.approx(0.5, rel=1e-6)
        optimizer.zero_grad()
        (mean * target * moments[0]).mean().backward()
        optimizer.step()
    assert abs(rms(transform.weight) - 0.5) > 1e-3
    # What the update left is rescaled wherever it is used.
    transform.eval()
    reference = BatchNormalizedMeans((3,), 0.5).eval()
    reference.load_state_dict(transform.state_dict())
    assert torch.allclose(transform(*moments)[0], reference(*moments)[0])


def test_rescaling_twice_is_rescaling_once() -> None:
    """Bit for bit, or a run that is saved and resumed would leave the path of one that is not."""
    for dtype in (torch.float32, torch.float64):
        weights = torch.randn(200, 32, dtype=dtype).abs() + 0.01
        for weight in weights:
            once = functional.rescale(weight, 0.6)
            assert torch.equal(functional.rescale(once, 0.6), once)
            assert rms(once) == pytest.approx(0.6, rel=1e-6)


def test_saving_leaves_the_scales_alone(moments: Any) -> None:
    transform = BatchNormalizedMeans((3,), 0.5)
    with torch.no_grad():
        transform.weight.copy_(torch.tensor([2.0, 1.0, 3.0]))
    saved = transform.state_dict()["weight"]
    assert transform.weight.tolist() == [2.0, 1.0, 3.0]
    transform(*moments)
    assert torch.equal(transform.weight, saved)


def test_evaluation_changes_nothing_unless_released(moments: Any) -> None:
    for rescale, changes in (("after_update", False), ("each_forward", True)):
        transform = BatchNormalizedMeans((3,), 0.5, rescale).eval()
        with torch.no_grad():
            transform.weight.fill_(2.0)
        before = {name: value.clone() for name, value in transform.named_parameters()}
        mean, _ = transform(*moments)
        assert mean.std() < 2.0
        assert (not torch.equal(transform.weight, before["weight"])) == changes
        assert transform.running_mean.abs().sum() == 0


@pytest.mark.parametrize(("rescale", "saved"), [("after_update", 0.5), ("each_forward", 2.0)])
def test_what_is_saved_is_rescaled_unless_released(rescale: str, saved: float) -> None:
    transform = BatchNormalizedMeans((3,), 0.5, rescale)
    with torch.no_grad():
        transform.weight.fill_(2.0)
    file = io.BytesIO()
    torch.save(transform.state_dict(), file)
    file.seek(0)
    assert rms(torch.load(file, weights_only=True)["weight"]) == pytest.approx(saved)
    assert rms(transform.weight) == pytest.approx(2.0)


def test_gradient_is_that_of_the_rescaled_scales(moments: Any) -> None:
    """Algorithm 1 differentiates at the rescaled scales; the rescaling itself is no part of the function."""
    transform = BatchNormalizedMeans((3,), 0.5).double()
    with torch.no_grad():
        transform.weight.copy_(torch.tensor([2.0, 1.0, 3.0]))
    mean = moments[0].double()
    scale = functional.rescale(transform.weight.detach(), 0.5).requires_grad_()
    normalized = (mean - mean.mean(0)) / (mean.var(0, unbiased=False) + 1e-5).sqrt()
    weights = torch.randn(64, 3, dtype=torch.float64)
    (expected,) = torch.autograd.grad((scale * normalized * weights).sum(), scale)
    (found,) = torch.autograd.grad((transform(mean, moments[1])[0] * weights).sum(), transform.weight)
    assert torch.allclose(found, expected)


def test_two_passes_in_one_step_can_be_differentiated(moments: Any) -> None:
    """A VampPrior, or MIM, encodes twice before the backward pass."""
    transform = BatchNormalizedMeans((3,), 0.5)
    first, second = (transform(moments[0][part], moments[1][part])[0] for part in (slice(0, 32), slice(32, 64)))
    (first.square().sum() + second.square().sum()).backward()
    assert torch.isfinite(transform.weight.grad).all()


def test_running_statistics_serve_evaluation(moments: Any) -> None:
    transform = BatchNormalizedMeans((3,), 0.5, momentum=1.0)
    transform(*moments)
    assert torch.allclose(transform.running_mean, moments[0].mean(0), atol=1e-6)
    assert torch.allclose(transform.running_var, moments[0].var(0), atol=1e-5)
    alone = transform.eval()(moments[0][:1], moments[1][:1])[0]
    assert torch.allclose(alone, transform(*moments)[0][:1], atol=1e-6)


def test_one_example_has_no_statistics() -> None:
    with pytest.raises(ShapeError, match=r"duvae\.batch_norm needs at least 2 examples a batch in training, found 1"):
        BatchNormalizedMeans((3,))(torch.zeros(1, 3), torch.zeros(1, 3))


def test_spatial_means() -> None:
    transform = BatchNormalizedMeans((2, 2, 2), 0.7)
    mean, _ = transform(torch.randn(16, 2, 2, 2), torch.zeros(16, 2, 2, 2))
    assert mean.shape == (16, 2, 2, 2)
    assert mean.var(0, unbiased=False).sum().item() == pytest.approx(8 * 0.49, rel=1e-3)


# ----------------------------------------------------------------------------------------------------------- variances


def test_floor_is_added_and_leaves_no_negative_entropy() -> None:
    logvar = torch.tensor([[-60.0, -2.0, 0.0, 3.0]])
    floored = functional.floor_variance(logvar)
    assert torch.allclose(floored.exp(), logvar.exp() + 1 / (2 * math.pi * math.e))
    assert functional.conditional_entropy(floored[:, :1]).item() == pytest.approx(0.0, abs=1e-6)


def test_dropout_keeps_the_expectation_and_what_it_drops_has_the_floor() -> None:
    logvar = torch.randn(1, 6).expand(20_000, 6).contiguous()
    _, dropped = VarianceDropout(keep=0.8)(torch.zeros_like(logvar), logvar)
    variances, floored = dropped.exp(), functional.floor_variance(logvar[:1]).exp()
    gone = torch.isclose(variances, torch.tensor(functional.FLOOR), rtol=1e-5)
    assert gone.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert torch.allclose(variances.mean(0), floored[0], rtol=0.05)
    # Independent for each example and dimension.
    together = (gone.float().T @ gone.float()) / len(gone)
    assert torch.allclose(together - together.diag().diag(), 0.04 * (1 - torch.eye(6)), atol=0.02)


def test_released_drop_probability_is_one_minus_the_paper_s() -> None:
    logvar = torch.zeros(1, 4)
    found = functional.drop_variance(logvar, torch.ones(1, 4), keep=0.9).exp()
    assert torch.allclose(found, torch.full((1, 4), 1 / 0.9 + functional.FLOOR))


def test_dropout_is_training_s_alone(moments: Any) -> None:
    transform, floor = VarianceDropout(keep=0.5), VarianceFloor()
    assert not torch.equal(transform(*moments)[1], transform(*moments)[1])
    transform.eval()
    for progress in (None, Progress(), Progress(final=True)):
        assert torch.equal(transform(*moments, progress)[1], floor(*moments, progress)[1])


@pytest.mark.parametrize("transform", [VarianceFloor(from_epoch=10), VarianceDropout(keep=0.5, from_epoch=10)])
def test_released_timing_waits_until_the_weight_of_the_rate_is_one(transform: nn.Module, moments: Any) -> None:
    weight = LinearSchedule(10.0)
    for step in (0, 50, 98, 99, 100, 500):
        progress = Progress(step=step, steps_per_epoch=10)
        works = not torch.equal(transform(*moments, progress)[1], moments[1])
        assert works == (weight(progress) == 1), step
    # Validation and everything that is measured see the floor from the start.
    transform.eval()
    early = Progress(step=0, steps_per_epoch=10, final=True)
    for progress in (early, None):
        assert torch.equal(transform(*moments, progress)[1], functional.floor_variance(moments[1]))


@pytest.mark.parametrize("raw", [-200.0, -20.0, 3.0, 200.0])
def test_variances_and_their_gradients_stay_finite(raw: float) -> None:
    """Where there is no floor the released dropout takes the logarithm of negative numbers."""
    logvar = torch.full((500, 4), raw, requires_grad=True)
    _, dropped = VarianceDropout(keep=0.5)(torch.zeros_like(logvar), logvar)
    assert torch.isfinite(dropped).all()
    assert (dropped.exp() >= functional.FLOOR * (1 - 1e-5)).all()
    (gradient,) = torch.autograd.grad(dropped.sum(), logvar)
    assert torch.isfinite(gradient).all()
    gone = torch.isclose(dropped, torch.tensor(math.log(functional.FLOOR)))
    assert not gradient[gone].any() or raw < 0
    assert gone.any()


@pytest.mark.parametrize("config", [VarianceFloorConfig, VarianceDropoutConfig])
def test_a_floor_behind_the_run_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match=r"from_epoch: 13 lies behind the run, whose training\.epochs is 12"):
        config(from_epoch=13.0).build(CONTEXT)
    assert config(from_epoch=12.0).build(CONTEXT).from_epoch == 12.0


@pytest.mark.parametrize("wrong", [{"keep": 0.0}, {"keep": 1.1}, {"from_epoch": -1.0}, {"scale": 0.0}, {"p_drop": 0.2}])
def test_config_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VarianceDropoutConfig(**wrong)


def test_configs_build_what_they_say() -> None:
    assert repr(BatchNormalizedMeansConfig(gamma=0.6).build(CONTEXT)) == (
        "BatchNormalizedMeans(gamma=0.6, rescale='after_update', momentum=0.1, eps=1e-05)"
    )
    built = VarianceDropoutConfig(keep=0.9, from_epoch=10.0, scale=2.0).build(CONTEXT)
    assert repr(built) == f"VarianceDropout(keep=0.9, floor={2 * functional.FLOOR:.6g}, from_epoch=10.0)"


# ---------------------------------------------------------------------------------------------------------- posteriors


def test_gaussian_posterior_samples_what_its_rate_is_computed_from() -> None:
    posterior = GaussianPosterior((5,), (3,), [BatchNormalizedMeans((3,), 0.5), VarianceDropout(0.5)])
    q = posterior(torch.randn(40, 5), Progress())
    floor = torch.tensor(functional.FLOOR)
    dropped = torch.isclose(q.variance, floor, rtol=1e-5)
    assert 0.3 < dropped.float().mean() < 0.7
    z = q.rsample((4000,))
    assert torch.allclose(z.var(0)[dropped], floor.expand(int(dropped.sum())), rtol=0.2)


def test_du_iaf_floors_drops_and_normalizes_the_base() -> None:
    moments = [BatchNormalizedMeans((3,), 0.6, eps=1e-8), VarianceDropout(0.7)]
    posterior = InverseAutoregressivePosterior((5,), 3, blocks=2, hidden=8, moments=moments)
    q = posterior(torch.randn(50, 5), Progress())
    assert q.base.mean.var(0, unbiased=False).sum().item() == pytest.approx(3 * 0.36, rel=1e-3)
    assert torch.isclose(q.base.variance, torch.tensor(functional.FLOOR), rtol=1e-5).float().mean() > 0.15
    plain = InverseAutoregressivePosterior((5,), 3, blocks=2, hidden=8)
    plain.load_state_dict({k: v for k, v in posterior.state_dict().items() if not k.startswith("moments")})
    h = torch.randn(50, 5)
    posterior.eval()
    # softplus² + alpha, as released.
    expected = plain(h).base.variance + functional.FLOOR
    assert torch.allclose(posterior(h).base.variance, expected, rtol=1e-5)
    z, log_q = q.rsample_and_log_prob((2,))
    (z.square().sum() + log_q.sum()).backward()
    assert torch.isfinite(moments[0].weight.grad).all()


def test_is_registered() -> None:
    info = next(p for p in registry().plugins if p.name == "duvae")
    assert (info.error, info.distribution) == (None, "uncollapse-duvae")
    assert ("moment_transform", "duvae.variance_dropout") in info.components
