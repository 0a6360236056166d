"""Data alone move what parts keep of the data, whatever else is encoded in the same step."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from uncollapse import LatentVariableModel, Pipeline
from uncollapse.distributions import DiagonalNormal
from uncollapse.protocols import Batch, Progress

DATA = {"type": "digits", "binarize": "threshold", "batch_size": 50, "limit": 400}
VAMP = {"type": "vampprior", "components": 20, "from_data": False}
DURING = Progress(step=0, steps_per_epoch=10, total_steps=100)


def made(moments: list[Any], prior: Any = "standard_normal", objective: Any = "elbo", **changes: Any) -> Any:
    raw = {
        "name": "tiny",
        "data": DATA,
        "model": {
            "encoder": {"type": "mlp", "hidden": [16]},
            "posterior": {"type": "gaussian", "latent_dim": 8, "moments": moments},
            "prior": prior,
            "decoder": {"type": "mlp", "hidden": [16]},
        },
        "objective": objective,
        **changes,
    }
    return Pipeline.from_dict(raw).build()


def statistics(model: LatentVariableModel) -> dict[str, torch.Tensor]:
    return {name: b.clone() for part in (model.encoder, model.posterior) for name, b in part.named_buffers()}


def after_steps(built: Any, model: LatentVariableModel, batches: list[Batch]) -> dict[str, torch.Tensor]:
    model.train()
    for batch in batches:
        built.objective(model, batch, DURING)
    return statistics(model)


@pytest.fixture
def batches() -> list[Batch]:
    return [Batch(torch.rand(40, 1, 8, 8).round()) for _ in range(4)]


NORMALIZED = [{"type": "baselines.batch_norm", "gamma": 0.6}, {"type": "duvae.batch_norm", "gamma": 0.6}]


@pytest.mark.parametrize("moments", NORMALIZED, ids=lambda m: m["type"])
@pytest.mark.parametrize(
    ("prior", "objective"),
    [
        (VAMP, "elbo"),
        ("standard_normal", {"type": "mim.mim", "gradient": "reinforce"}),
        (VAMP, {"type": "mim.mim", "gradient": "reinforce"}),
    ],
    ids=["vampprior", "mim", "both"],
)
def test_running_statistics_are_those_of_the_data(
    moments: dict[str, Any], prior: Any, objective: Any, batches: list[Batch]
) -> None:
    alone, other = made([moments]), made([moments], prior, objective)
    for part in ("encoder", "posterior", "decoder"):
        getattr(other.model, part).load_state_dict(getattr(alone.model, part).state_dict())
    expected = after_steps(alone, alone.model, batches)
    assert any(bool((value - start).abs().max() > 1e-3) for value, start in zip(expected.values(), statistics(made([moments]).model).values(), strict=True))  # fmt: skip
    found = after_steps(other, other.model, batches)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


class Normalized(nn.Sequential):
    """An encoder with torch's own batch normalization."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())


def test_torch_s_own_batch_normalization_is_moved_by_data_alone(batches: list[Batch]) -> None:
    built = made([], VAMP)
    model = LatentVariableModel(Normalized(), built.model.posterior, built.model.prior, built.model.decoder)
    plain = copy.deepcopy(model.encoder)
    found = after_steps(built, model, batches)
    for batch in batches:
        plain(batch.x)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(found[name], value)
    assert found["2.num_batches_tracked"] == len(batches)


def components(model: LatentVariableModel) -> DiagonalNormal:
    q = model.prior().components  # type: ignore[operator]
    assert isinstance(q, DiagonalNormal)
    return q


@pytest.mark.parametrize("moments", NORMALIZED, ids=lambda m: m["type"])
def test_pseudo_inputs_are_normalized_as_the_data_of_the_step_are(
    moments: dict[str, Any], batches: list[Batch]
) -> None:
    model = made([moments], {**VAMP, "components": 40}).model.train()
    x = batches[0].x
    q = model(x, progress=DURING).q
    with torch.no_grad():
        model.prior.pseudo_inputs.copy_(x)
    # Inputs that are the data get the posteriors of the data.
    torch.testing.assert_close(components(model).mean, q.mean)
    with torch.no_grad():
        model.prior.pseudo_inputs.copy_(x[:1].expand_as(x))
    torch.testing.assert_close(components(model).mean[0], q.mean[0])


def test_pseudo_posteriors_have_their_floor_when_the_data_have_it() -> None:
    floor = {"type": "duvae.variance_floor", "from_epoch": 2, "scale": 100.0}
    model = made([floor], VAMP, training={"epochs": 4}).model.train()
    x = torch.rand(40, 1, 8, 8).round()
    for step, floored in ((0, False), (5, False), (19, True), (30, True)):
        inference = model(x, progress=Progress(step=step, steps_per_epoch=10, total_steps=40))
        least = model.posterior.moments[0].floor
        assert bool((inference.q.variance >= least).all()) == floored
        assert bool((components(model).variance >= least).all()) == floored
    # In evaluation everything stands at its end.
    assert bool((components(model.eval()).variance >= least).all())


def test_variances_of_pseudo_posteriors_do_not_drop_out() -> None:
    model = made([{"type": "duvae.variance_dropout", "keep": 0.3}], VAMP).model.train()
    model(torch.rand(40, 1, 8, 8).round(), progress=DURING)
    torch.testing.assert_close(components(model).variance, components(model).variance, rtol=0, atol=0)


def test_means_of_the_data_spread_as_the_paper_has_it_beside_a_vampprior(tmp_path: Any) -> None:
    """DU-VAE, eq. 9: the means' variances over the data sum to ``n gamma²`` = 2.88."""
    config = {
        "name": "spread",
        "data": {**DATA, "binarize": "dynamic", "limit": None},
        "model": {
            "encoder": {"type": "mlp", "hidden": [64]},
            "posterior": {"type": "gaussian", "latent_dim": 8, "moments": [NORMALIZED[1]]},
            "prior": VAMP,
            "decoder": {"type": "mlp", "hidden": [64]},
        },
        "training": {"epochs": 20, "device": "cpu"},
    }
    run = Pipeline.from_dict(config).fit(tmp_path / "run", quiet=True)
    built = run.load("last")
    batches = built.data.train.batches(2000)
    means = torch.cat([built.model.eval().infer(batch.x).mean for batch in batches])
    assert means.var(0).sum().item() == pytest.approx(8 * 0.6**2, rel=0.1)
