"""The classifier beside the model and after it: what it learns from, what it leaves alone, and resuming."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse_kit import assert_conforms, reference_model
from uncollapse_muvae import MLPProbe, MLPProbeConfig, OnlineClassifier, OnlineClassifierConfig

CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary", classes=3), latent_shape=(5,), feature_shape=(12,))


def seen(samples: int = 1) -> tuple[Inference, Batch]:
    x = torch.bernoulli(torch.full((12, 1, 4, 4), 0.4))
    inference: Inference = reference_model(CONTEXT)(x, samples=samples)
    return inference, Batch(x, torch.arange(12) % 3)


def clusters(count: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 3
    return 3 * torch.eye(3, 5)[labels] + 0.5 * torch.randn(count, 5), labels


def test_is_the_paper_s_network() -> None:
    context = BuildContext(DataSpec((1, 28, 28), "unit_interval", classes=10), latent_shape=(10,))
    built = OnlineClassifierConfig().build(context)
    shapes = [(m.in_features, m.out_features) for m in built.network if isinstance(m, nn.Linear)]
    assert shapes == [(10, 1024), (1024, 1024), (1024, 1024), (1024, 10)]
    assert [m.negative_slope for m in built.network if isinstance(m, nn.LeakyReLU)] == [0.2] * 3
    assert isinstance(built.network[-1], nn.Linear)
    assert (built.optimizer.defaults["lr"], built.optimizer.defaults["betas"]) == (1e-4, (0.9, 0.999))


def test_nothing_flows_back_and_no_random_number_is_taken() -> None:
    inference, batch = seen()
    torch.manual_seed(5)
    classifier = OnlineClassifier(5, 3, (8,))
    classifier(inference, batch, Progress())
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    # The graph is whole, and no gradient has been put anywhere in it.
    (grad,) = torch.autograd.grad(inference.log_p_x.sum(), inference.z)
    assert grad.norm() > 0


def test_scores_before_it_learns() -> None:
    """Told the same labels twice, it is right the second time at the latest; the first score is that of its start."""
    codes, labels = clusters(60)
    classifier = OnlineClassifier(5, 3, (32,), lr=0.05)
    start = (classifier.predict(codes) == labels).float().mean()
    assert classifier.learn(codes, labels)["accuracy"] == start
    assert start < 0.9
    for _ in range(20):
        found = classifier.learn(codes, labels)
    assert found["accuracy"] > 0.95


@pytest.mark.parametrize("codes", ["sample", "mean"])
def test_codes_are_those_asked_for(codes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inference, batch = seen(samples=2)
    classifier = OnlineClassifier(5, 3, (8,), codes=codes)  # type: ignore[arg-type]
    given: list[tuple[Tensor, Tensor]] = []

    def learn(codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        given.append((codes, labels))
        return {}

    monkeypatch.setattr(classifier, "learn", learn)
    classifier(inference, batch, Progress())
    expected = inference.z.flatten(0, 1) if codes == "sample" else inference.q.mean
    assert torch.equal(given[0][0], expected)
    assert batch.labels is not None
    assert torch.equal(given[0][1], batch.labels.repeat(2 if codes == "sample" else 1))
    assert not given[0][0].requires_grad


def test_going_on_from_its_state_is_as_if_it_had_not_stopped() -> None:
    """Adam's moments too: a state of weights alone would take other steps."""
    batches = [clusters(16) for _ in range(6)]
    one = OnlineClassifier(5, 3, (8,), lr=0.01)
    for codes, labels in batches[:3]:
        one.learn(codes, labels)
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other = OnlineClassifier(5, 3, (8,), lr=0.01)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for codes, labels in batches[3:]:
        one.learn(codes, labels)
        other.learn(codes, labels)
    for found, expected in zip(other.parameters(), one.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_measure_counts_what_is_right() -> None:
    _, batch = seen()
    model = reference_model(CONTEXT)
    classifier = OnlineClassifier(5, 3, (8,), codes="mean")

    def batches() -> Iterator[Batch]:
        assert batch.labels is not None
        yield Batch(batch.x[:8], batch.labels[:8])
        yield Batch(batch.x[8:], batch.labels[8:])

    found = classifier.measure(model, batches)["online_accuracy"]
    with torch.no_grad():
        right = (classifier.predict(model.eval().infer(batch.x, Progress.at_end()).mean) == batch.labels).sum()
    assert (found.value, found.count) == (right.item() / 12, 12)


def test_what_it_cannot_learn_from_is_refused() -> None:
    inference, batch = seen()
    with pytest.raises(ConfigError, match="a classifier needs labels"):
        OnlineClassifierConfig().build(BuildContext(DataSpec((4,), "real"), latent_shape=(2,)))
    with pytest.raises(ConfigError, match="a classifier needs labels"):
        OnlineClassifier(5, 3, (8,))(inference, Batch(batch.x), Progress())

    class NoMean(Distribution):
        arg_constraints = {}  # noqa: RUF012 - torch's own signature

    object.__setattr__(inference, "q", NoMean(validate_args=False))
    with pytest.raises(ConfigError, match=r"codes: mean needs .* found NoMean; use codes: sample"):
        OnlineClassifier(5, 3, (8,), codes="mean")(inference, batch, Progress())


def test_probe_keeps_the_names_of_classes_and_the_world_s_random_state() -> None:
    train, labels = clusters(300)
    test, truth = clusters(90)
    names = torch.tensor([7, 2, 40])
    probe = MLPProbe((16,), lr=0.01, epochs=5, labels=("all", 30), draws=2)
    torch.manual_seed(3)
    found = probe(train, names[labels], test, names[truth])
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(2))
    assert set(found) == {"mlp_accuracy", "mlp_accuracy_30"}
    assert found["mlp_accuracy"].value > 0.95
    assert found["mlp_accuracy"].note == "5 epochs"


def test_conforms() -> None:
    assert_conforms(OnlineClassifierConfig(hidden=(8,)))
    assert_conforms(OnlineClassifierConfig(hidden=(8,), codes="mean"))
    assert_conforms(MLPProbeConfig(hidden=(16,), lr=3e-3, epochs=5))
