"""Models of anybody's: what an adapter understands, and what it says where it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.utils.data import DataLoader, TensorDataset
from uncollapse import Batch
from uncollapse.errors import ConfigError, DataError, ShapeError
from uncollapse_diagnosis import Adapter, Settings, batches_of, diagnose
from uncollapse_diagnosis.posteriors import read_posterior, read_prior

MEAN, LOGVAR = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
STD = (0.5 * LOGVAR).exp()


@pytest.mark.parametrize(
    "given",
    [
        Normal(MEAN, STD),
        Independent(Normal(MEAN, STD), 1),
        Independent(Normal(MEAN, STD), 2),
        (MEAN, LOGVAR),
        SimpleNamespace(mean=MEAN, logvar=LOGVAR),
        SimpleNamespace(mean=MEAN, log_var=LOGVAR),
        SimpleNamespace(mean=MEAN, var=LOGVAR.exp()),
        SimpleNamespace(mean=MEAN, std=STD),
        SimpleNamespace(latent_dist=SimpleNamespace(mean=MEAN, logvar=LOGVAR)),
    ],
)
def test_every_way_of_giving_a_gaussian_is_read_alike(given: Any) -> None:
    q = read_posterior(given, 5)
    assert (tuple(q.batch_shape), tuple(q.event_shape)) == ((5,), (2, 3))
    z = torch.randn(5, 2, 3)
    torch.testing.assert_close(q.log_prob(z), Normal(MEAN, STD).log_prob(z).sum((1, 2)))


def test_other_distributions_become_one_for_each_example() -> None:
    q = read_posterior(torch.distributions.Laplace(MEAN, STD), 5)
    assert (tuple(q.batch_shape), tuple(q.event_shape)) == ((5,), (2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (MEAN, "expected a torch Distribution, an object with .mean and .logvar .*; found Tensor"),
        ((MEAN, LOGVAR[:, 0]), r"log-variance \[B, \*D\] of one shape, found \(5, 2, 3\) and \(5, 3\)"),
        (Normal(torch.zeros(2), torch.ones(2)), r"each of 5 examples, batch \[5\] and event D; found batch \[2\]"),
    ],
)
def test_what_is_no_posterior_is_named(given: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        read_posterior(given, 5)


def test_priors_fit_the_latent_or_are_refused() -> None:
    shape, cpu = torch.Size((2, 3)), torch.device("cpu")
    for given in (None, Normal(0.0, 1.0), Normal(torch.zeros(2, 3), torch.ones(2, 3))):
        prior = read_prior(given, shape, cpu)
        assert (tuple(prior.batch_shape), tuple(prior.event_shape)) == ((), (2, 3))
    with pytest.raises(ShapeError, match=r"its latents have shape \(4,\), the posterior's \(2, 3\)"):
        read_prior(torch.distributions.MultivariateNormal(torch.zeros(4), torch.eye(4)), shape, cpu)


def simple(**replaced: Any) -> Adapter:
    given: dict[str, Any] = {
        "posterior": lambda x: (x[:, :2], torch.zeros(len(x), 2)),
        "likelihood": lambda z: Normal(z.repeat(1, 2), 1.0),
        **replaced,
    }
    return Adapter(**given)


QUICK = Settings(decoder_examples=20, refined_examples=10, passes_at_once=999)


def test_both_ways_of_scoring_agree() -> None:
    def nats(x: Tensor, z: Tensor) -> Tensor:
        return Normal(z.repeat(1, 2), 1.0).log_prob(x).sum(1)

    x = torch.randn(60, 4)
    found = [diagnose(a, x, settings=QUICK).to_dict() for a in (simple(), simple(likelihood=None, log_likelihood=nats))]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"likelihood": lambda z: z.repeat(1, 2)}, "expected a torch Distribution over x, found Tensor; wrap what"),
        ({"likelihood": lambda z: Normal(z[:1].repeat(1, 2)[0], 1.0).expand((4,))}, None),
        ({"likelihood": None, "log_likelihood": lambda x, z: x.sum()}, r"expected nats \[B\] = \[\d+\], .*found \[\]"),
        ({"likelihood": None, "log_likelihood": lambda x, z: x}, "sum over pixels or tokens"),
    ],
)
def test_what_is_no_score_is_named(replaced: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert diagnose(simple(**replaced), torch.randn(60, 4), settings=QUICK).examples == 60
        return
    with pytest.raises(ShapeError, match=message):
        diagnose(simple(**replaced), torch.randn(60, 4), settings=QUICK)


def test_needs_one_way_of_scoring() -> None:
    with pytest.raises(ConfigError, match="found neither"):
        Adapter(lambda x: x)
    with pytest.raises(ConfigError, match="found both"):
        simple(log_likelihood=lambda x, z: x)


def test_masks_reach_whoever_asks_for_them() -> None:
    seen: list[tuple[str, Any]] = []

    def posterior(x: Tensor, mask: Tensor | None) -> Distribution:
        seen.append(("posterior", mask))
        return Normal(x[:, :1].float(), 1.0)

    def log_likelihood(x: Tensor, z: Tensor, mask: Tensor | None = None) -> Tensor:
        seen.append(("decoder", mask))
        assert mask is not None
        return (Bernoulli(logits=z.expand(-1, x.shape[1])).log_prob(x.float()) * mask).sum(1)

    x, mask = torch.randint(2, (60, 5)), torch.rand(60, 5) < 0.5
    diagnose(Adapter(posterior, log_likelihood=log_likelihood), Batch(x, mask=mask), settings=QUICK)
    assert {name for name, m in seen if isinstance(m, Tensor)} == {"posterior", "decoder"}
    assert all(m is not None for _, m in seen)


def test_data_come_in_many_forms() -> None:
    x, y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
    dataset = TensorDataset(x, y)
    for data in (x, Batch(x, y), DataLoader(dataset, batch_size=4), lambda: [x[:3], x[3:]], lambda: x, [(x, y)]):
        found = torch.cat([batch.x for batch in batches_of(data, 4)])
        assert sorted(found[:, 0].tolist()) == x[:, 0].tolist()
    assert [b.labels is not None for b in batches_of(DataLoader(dataset, batch_size=6), 4)] == [True]
    with pytest.raises(DataError, match="found dict with the keys input_ids; give a generator"):
        list(batches_of([{"input_ids": x}], 4))


def test_needs_no_more_than_the_examples_asked_for() -> None:
    def endless() -> Any:
        while True:
            yield torch.randn(40, 4)

    found = diagnose(simple(), endless, settings=Settings(examples=100, decoder_examples=20, refined_examples=0))
    assert found.examples == 100
    large = Settings(numbers=120, decoder_examples=20, refined_examples=0)
    assert diagnose(simple(), endless, settings=large).examples == 80
