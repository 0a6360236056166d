"""Measurements against the closed forms of linear VAEs."""

from __future__ import annotations

import json
import math

import pytest
import torch
from gallery_linear import Spoiled, vectors
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from uncollapse.errors import ConfigError, DataError
from uncollapse.findings import Condition, Evidence, Finding
from uncollapse.plugins import Measurement, registry
from uncollapse.protocols import Estimate
from uncollapse_diagnosis import Adapter, Codes, Diagnosis, Settings, diagnose
from uncollapse_diagnosis.decoder_use import used_information

MANY = Settings(decoder_examples=2000, refined_examples=400, passes_at_once=100_000)
WEIGHTS = [1.0, 0.5, 0.8]


def linear(spoiled: Spoiled = Spoiled(), weights: list[float] = WEIGHTS, count: int = 1000) -> Diagnosis:  # noqa: B008
    torch.manual_seed(5)
    return diagnose(*vectors(weights, spoiled, count), settings=MANY)


def near(estimate: Estimate, value: float, errors: float = 3.5) -> bool:
    assert estimate.standard_error is not None
    return abs(estimate.value - value) < errors * estimate.standard_error + 1e-9


@pytest.fixture(scope="module")
def right() -> Diagnosis:
    return linear()


def test_rate_and_information_are_those_of_the_channel(right: Diagnosis) -> None:
    each = [0.5 * math.log(1 + w * w) for w in WEIGHTS]
    assert near(right.measurements["rate"], sum(each))
    assert near(right.measurements["mutual_information"], sum(each))
    assert right.units is not None
    assert right.units.rate is not None
    for measured in (right.units.rate, right.units.information):
        for (value, error), expected in zip(measured, each, strict=True):
            assert abs(value - expected) < 4 * error + 1e-3
    for (value, _), w in zip(right.units.posterior_variance, WEIGHTS, strict=True):
        assert value == pytest.approx(1 / (1 + w * w), rel=1e-5)


def test_losses_under_other_codes_are_known(right: Diagnosis) -> None:
    total = sum(w * w for w in WEIGHTS)
    assert near(right.measurements["loss_other"], total)
    assert near(right.measurements["loss_prior"], total)
    assert near(right.measurements["loss_mean"], total / 2)
    assert near(right.measurements["distortion"], 12 * math.log(2 * math.pi) + 12)


def test_the_decoder_uses_at_most_the_information(right: Diagnosis) -> None:
    used, known = right.measurements["used_information"], sum(0.5 * math.log(1 + w * w) for w in WEIGHTS)
    assert 0.6 * known < used.value < known + 3 * (used.standard_error or 0)


def test_a_right_aggregate_matches_and_an_exact_posterior_has_no_gap(right: Diagnosis) -> None:
    for name in ("prior_mismatch", "mmd", "log_determinant"):
        assert near(right.measurements[name], 0.0), name
    # Choosing among points by few draws costs a little: a lower bound of zero.
    assert -0.1 < right.measurements["inference_gap"].value < 0.01


def test_mismatch_is_that_of_the_moments() -> None:
    moved = linear(Spoiled(shift=2.0)).measurements
    assert near(moved["prior_mismatch"], 0.5 * 3 * 4)
    assert near(moved["log_determinant"], 0.0)
    assert moved["mmd"].value > 10 * (moved["mmd"].standard_error or 0)
    # Means are three times as far apart, posteriors as wide as before.
    variances = [9 * w * w / (1 + w * w) + 1 / (1 + w * w) for w in WEIGHTS]
    wide = linear(Spoiled(stretch=3.0)).measurements
    assert near(wide["log_determinant"], sum(map(math.log, variances)) / 3, 4)
    assert near(wide["prior_mismatch"], sum(0.5 * (v - 1 - math.log(v)) for v in variances), 4)


def test_the_gap_is_that_of_the_model_s_posterior() -> None:
    found = linear(Spoiled("prior")).measurements
    gap, known = found["inference_gap"], sum(w * w - 0.5 * math.log(1 + w * w) for w in WEIGHTS)
    error = gap.standard_error or 0.0
    assert 0.85 * known - 3 * error < gap.value < known + 3 * error
    assert found["rate"].value == pytest.approx(0.0, abs=1e-12)


def test_errors_are_those_of_repetitions() -> None:
    names = ("rate", "loss_other", "prior_mismatch", "log_determinant", "mutual_posterior_divergence")
    quick = Settings(decoder_examples=200, refined_examples=0, passes_at_once=100_000, replacements=4)
    runs = []
    for seed in range(40):
        torch.manual_seed(seed)
        runs.append(diagnose(*vectors([1.0, 0.5], Spoiled(shift=1.0), 200), settings=quick).measurements)
    for name in names:
        spread = torch.tensor([run[name].value for run in runs]).std().item()
        stated = sum(run[name].standard_error or 0.0 for run in runs) / len(runs)
        assert 0.65 < stated / spread < 1.6, (name, stated, spread)


def test_other_posteriors_give_the_numbers_of_the_gaussian_they_are() -> None:
    torch.manual_seed(2)
    basis = torch.linalg.qr(torch.randn(6, 2))[0]
    x = torch.randn(500, 2) @ basis.T + torch.randn(500, 6)

    def full(x: torch.Tensor) -> MultivariateNormal:
        return MultivariateNormal(x @ basis / 2, 0.5 * torch.eye(2).expand(len(x), 2, 2))

    adapters = [
        Adapter(lambda x: Normal(x @ basis / 2, math.sqrt(0.5)), likelihood=lambda z: Normal(z @ basis.T, 1.0)),
        Adapter(full, likelihood=lambda z: Normal(z @ basis.T, 1.0)),
    ]
    exact, general = (diagnose(a, x, settings=Settings(decoder_examples=100, passes_at_once=9999)) for a in adapters)
    assert general.skipped == {
        "mutual_posterior_divergence": "the posterior is no diagonal Gaussian, and pairwise divergences are known for "
        "those"
    }
    for name in ("inference_gap", "rate", "mutual_information", "prior_mismatch", "loss_mean"):
        a, b = exact.measurements[name], general.measurements[name]
        spread = math.hypot(a.standard_error or 0, b.standard_error or 0)
        assert abs(a.value - b.value) < 3 * spread + 0.02, name


def test_the_gap_of_a_posterior_of_another_family_is_found_too() -> None:
    torch.manual_seed(4)
    basis = torch.linalg.qr(torch.randn(6, 2))[0]
    x = torch.randn(400, 2) @ basis.T + torch.randn(400, 6)

    def lazy(x: torch.Tensor) -> MultivariateNormal:
        return MultivariateNormal(torch.zeros(len(x), 2), torch.eye(2).expand(len(x), 2, 2))

    adapter = Adapter(lazy, likelihood=lambda z: Normal(z @ basis.T, 1.0))
    found = diagnose(adapter, x, settings=Settings(decoder_examples=300, refined_examples=300, passes_at_once=9999))
    gap, known = found.measurements["inference_gap"], 2 * (1 - 0.5 * math.log(2))
    error = gap.standard_error or 0.0
    assert 0.85 * known - 3 * error < gap.value < known + 3 * error
    assert found.verdict == "inference lagging"


def test_contributed_measurements_and_conditions_take_part() -> None:
    def oddness(subject: object, codes: Codes, settings: Settings) -> dict[str, Estimate]:
        return {"oddness": Estimate(codes.z.abs().max().item(), "units", 0.0, codes.count)}

    def unable(subject: object, codes: Codes, settings: Settings) -> dict[str, Estimate]:
        raise ConfigError("this model has none")

    def broken(subject: object, codes: Codes, settings: Settings) -> dict[str, Estimate]:
        raise KeyError("z")

    def odd(evidence: Evidence) -> Finding | None:
        found = evidence.interval("oddness")
        return Finding("odd", f"{found.value:.1f}") if found is not None and found.low > 0 else None

    torch.manual_seed(5)
    model, data = vectors(WEIGHTS, Spoiled(), 200)
    more = [Measurement("oddness", oddness), Measurement("unable", unable), Measurement("broken", broken)]
    conditions = (*registry().conditions()[0], Condition("odd", 42, ("oddness",), odd, "oddness"))
    plain = diagnose(model, data, settings=Settings(refined_examples=8), measurements=())
    found = diagnose(model, data, settings=Settings(refined_examples=8), measurements=more, conditions=conditions)
    assert found.findings[-1].condition == "odd"
    assert found.skipped == {"unable": "this model has none", "broken": "KeyError: 'z'"}
    # Nobody's number depends on what else is measured.
    assert {n: e for n, e in found.measurements.items() if n != "oddness"} == dict(plain.measurements)
    assert "mmd" not in plain.measurements


def test_used_information_does_not_depend_on_the_likelihood_s_scale() -> None:
    own, others = torch.randn(300, dtype=torch.float64) + 2, torch.randn(15, 300, dtype=torch.float64)
    found = [used_information(scale * own, scale * others).value for scale in (1e-3, 1.0, 1e3)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[2] == pytest.approx(found[1], rel=1e-6)
    assert 0.3 < found[0] < math.log(16)
    assert used_information(own, own.expand(15, -1)).value == 0.0


def test_used_information_without_information_is_zero_within_its_error() -> None:
    own, others = torch.randn(2000, dtype=torch.float64), torch.randn(15, 2000, dtype=torch.float64)
    found = used_information(50 * own, 50 * others)
    assert abs(found.value) < 3 * (found.standard_error or 0) + 0.01


def test_is_repeatable_and_leaves_everything_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    adapter = Adapter(lambda x: net(x).chunk(2, 1), likelihood=lambda z: Normal(z.repeat(1, 2), 1.0), module=net)
    x, state = torch.randn(80, 4), torch.get_rng_state()
    first, second = (diagnose(adapter, x).to_dict() for _ in range(2))
    assert first == second
    assert net.training
    assert net[1].training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    json.dumps(first)


def test_history_and_thresholds_are_part_of_it() -> None:
    torch.manual_seed(0)
    rows = [{"step": s, "rate": r, "rate_weight": 0.1 * s} for s, r in ((1, 3.0), (2, 2.0), (3, 0.2), (4, 0.1))]
    found = diagnose(*vectors([0.0, 0.0]), classes=10, history=rows)
    assert found.verdict == "collapsed"
    assert found.history is not None
    assert found.history.fell_step == 3
    assert "at step 3, under rate_weight 0.3" in found.history.sentence
    assert found.thresholds.collapsed == pytest.approx(0.5 * math.log(10))
    assert found.thresholds.unit == pytest.approx(0.25 * math.log(10))


def test_says_what_is_wrong() -> None:
    model, x = vectors([1.0])
    with pytest.raises(DataError, match="the data are empty"):
        diagnose(model, x[:0])
    bad = Adapter(lambda x: Normal(x[:, :2], 1.0), log_likelihood=lambda x, z: torch.full((len(x),), -math.inf))
    with pytest.raises(DataError, match="under its own code is not finite"):
        diagnose(bad, x)
    with pytest.raises(ConfigError, match="decoder_examples: expected at least 2, found 1"):
        Settings(decoder_examples=1)
    blind = Adapter(
        lambda x: Normal(x[:, :2], 1.0), likelihood=lambda z: Independent(Normal(z.detach().repeat(1, 12), 1.0), 1)
    )
    found = diagnose(blind, x)
    assert "has no gradient in z" in found.skipped["inference_gap"]
