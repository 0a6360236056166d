"""A whole evaluation on a small model and an in-memory data source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from uncollapse import Batch, DataSpec, DiagonalNormal, LatentVariableModel
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.config.pipeline import EvaluationConfig
from uncollapse.decoders import MLPDecoder
from uncollapse.encoders import MLPEncoder
from uncollapse.errors import ConfigError
from uncollapse.evaluation import check_evaluation, encode, evaluate
from uncollapse.findings import CONDITIONS, Evidence, conclude
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors import StandardNormalPrior
from uncollapse.protocols import Estimate, Estimates

ALL = EvaluationConfig(
    batch_size=16,
    estimators=(
        {"type": "nll", "samples": 7},
        "elbo",
        "kl_per_dimension",
        "active_units",
        "mutual_information",
        {"type": "mutual_information", "variant": "analytic"},
        {"type": "mutual_information", "variant": "minibatch", "minibatch_size": 8},
        {"type": "mutual_posterior_divergence", "per_batch": None},
        "reconstruction_error",
    ),
    probes=(
        {"type": "knn", "labels": [20, "all"]},
        "logistic",
        "linear_svm",
        "rbf_svm",
        {"type": "kmeans", "clusters": [4]},
    ),
)


class MemorySplit:
    """A split held in memory."""

    def __init__(self, x: Tensor, labels: Tensor | None, spec: DataSpec) -> None:
        self.x, self.labels, self.spec = x, labels, spec

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, batch_size: int, **kwargs: object) -> Iterator[Batch]:
        device = str(kwargs.get("device", "cpu"))
        for i in range(0, len(self.x), batch_size):
            labels = None if self.labels is None else self.labels[i : i + batch_size]
            yield Batch(self.x[i : i + batch_size], labels).to(device)


@dataclass
class Data:
    spec: DataSpec
    train: MemorySplit
    validation: MemorySplit
    test: MemorySplit


@dataclass
class Built:
    data: Data
    context: BuildContext
    model: LatentVariableModel


def _split(n: int, spec: DataSpec) -> MemorySplit:
    labels = torch.arange(n) % 3
    probabilities = 0.1 + 0.8 * nn.functional.one_hot(labels, 3).float().repeat(1, 4).reshape(n, 1, 3, 4)
    return MemorySplit(torch.bernoulli(probabilities), labels if spec.classes else None, spec)


def _built(classes: int | None = 3) -> Built:
    torch.manual_seed(1)
    spec = DataSpec((1, 3, 4), "binary", classes)
    model = LatentVariableModel(
        MLPEncoder(spec.event_shape, (16,)),
        GaussianPosterior((16,), (4,)),
        StandardNormalPrior((4,)),
        MLPDecoder((4,), spec.event_shape, BernoulliLikelihood(spec.event_shape), (16,)),
    )
    with torch.no_grad():
        # Codes that depend on x without any training: wide means, narrow posteriors.
        model.posterior.head.weight[:4] *= 8
        model.posterior.head.bias[4:] = -3.0
    data = Data(spec, _split(90, spec), _split(30, spec), _split(75, spec))
    return Built(data, BuildContext(spec, latent_shape=(4,)), model)


def test_results_have_the_whole_format_and_survive_json():
    results = evaluate(_built(), ALL, seed=3)
    assert json.loads(json.dumps(results, allow_nan=False)) == json.loads(json.dumps(results))
    assert set(results) == {"latent_dim", "split", "examples", "classes", "estimates", "probes", "skipped"}
    assert (results["latent_dim"], results["split"], results["examples"], results["classes"]) == (4, "test", 75, 3)
    assert set(results["estimates"]) == {
        "nll", "bits_per_dimension", "elbo", "rate", "distortion", "kl_per_dimension", "active_units",
        "mutual_information", "mutual_information_analytic", "mutual_information_minibatch", "mutual_posterior_divergence",
        "mutual_posterior_divergence_std", "reconstruction_error",
    }  # fmt: skip
    assert set(results["probes"]) == {
        "knn_accuracy", "knn_accuracy_20", "logistic_accuracy", "linear_svm_accuracy", "rbf_svm_accuracy",
        "kmeans_accuracy_k4",
    }  # fmt: skip
    assert results["skipped"] == {}
    for number in (*results["estimates"].values(), *results["probes"].values()):
        assert set(number) == {
            *("value", "unit", "standard_error", "count", "per_dimension", "per_dimension_error", "note")
        }
        assert isinstance(number["value"], float)
    estimates = results["estimates"]
    assert estimates["nll"]["value"] < -estimates["elbo"]["value"]
    assert estimates["nll"]["count"] == 75
    assert estimates["rate"]["value"] == pytest.approx(estimates["kl_per_dimension"]["value"], rel=1e-5)
    assert len(estimates["active_units"]["per_dimension"]) == 4
    assert estimates["mutual_information"]["value"] < estimates["rate"]["value"]
    assert results["probes"]["knn_accuracy"]["value"] > 0.5
    assert conclude(Evidence.from_results(results), CONDITIONS)[0].condition != "not enough data"


def test_a_number_does_not_depend_on_which_others_are_asked_for():
    built = _built()
    together = evaluate(built, ALL, seed=3)["estimates"]
    for estimator in ALL.estimators:
        for name, number in evaluate(built, EvaluationConfig(batch_size=16, estimators=(estimator,)), 3)[
            "estimates"
        ].items():
            assert number == together[name]
    assert evaluate(built, ALL, seed=4)["estimates"]["nll"]["value"] != together["nll"]["value"]


def test_random_state_modes_and_gradients_come_back():
    built = _built()
    built.model.train()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    evaluate(built, ALL, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert built.model.training
    assert all(p.grad is None and p.requires_grad for p in built.model.parameters())


def test_split_and_number_of_examples():
    built = _built()
    estimators = ("active_units",)
    whole = evaluate(built, EvaluationConfig(split="validation", batch_size=16, estimators=estimators), 0)
    assert (whole["split"], whole["examples"], whole["estimates"]["active_units"]["count"]) == ("validation", 30, 30)
    cut = EvaluationConfig(batch_size=16, examples=21, estimators=estimators, probes=("knn",))
    results = evaluate(built, cut, 0)
    assert results["examples"] == results["estimates"]["active_units"]["count"] == 21
    assert results["probes"]["knn_accuracy"]["count"] == 21
    beyond = evaluate(built, EvaluationConfig(examples=1000, estimators=estimators), 0)
    assert beyond["examples"] == beyond["estimates"]["active_units"]["count"] == 75


def test_examples_at_a_batchs_edge_read_no_further():
    built = _built()
    seen = []
    built.model.encoder.register_forward_hook(lambda _module, _inputs, h: seen.append(len(h)))
    evaluate(built, EvaluationConfig(batch_size=16, examples=32, estimators=("active_units",)), 0)
    assert seen == [16, 16]


def test_probes_without_labels_are_an_error_before_anything_runs():
    built = _built(classes=None)
    built.model.encoder.register_forward_hook(lambda *_: pytest.fail("the model ran"))
    for call in (lambda: evaluate(built, ALL, 0), lambda: check_evaluation(built, ALL)):
        with pytest.raises(ConfigError, match=r"evaluation.probes: found knn, .*no labels"):
            call()


def test_probes_are_not_scored_where_they_learn():
    with pytest.raises(ConfigError, match=r"evaluation.split: found train"):
        evaluate(_built(), EvaluationConfig(split="train", probes=("knn",)), 0)
    results = evaluate(_built(), EvaluationConfig(split="train", estimators=("active_units",)), 0)
    assert results["examples"] == 90


def test_a_split_without_the_labels_that_the_data_promise():
    built = _built()
    built.data.test.labels = None
    with pytest.raises(ConfigError, match="the test split has no labels"):
        evaluate(built, EvaluationConfig(probes=("knn",)), 0)


def test_what_does_not_apply_is_skipped_with_its_reason_and_the_rest_is_measured():
    built = _built()
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2)), DiagonalNormal(torch.randn(2, 4), torch.zeros(2, 4))
    )
    prior = nn.Module()
    prior.forward = lambda: mixture
    built.model.prior = prior
    config = EvaluationConfig(
        estimators=("kl_per_dimension", "elbo"), probes=({"type": "knn", "labels": [2]}, "logistic")
    )
    results = evaluate(built, config, 0)
    assert "the prior MixtureSameFamily" in results["skipped"]["kl_per_dimension"]
    assert "evaluation.probes.labels: found 2" in results["skipped"]["knn"]
    assert results["estimates"]["rate"]["note"].startswith("Monte Carlo")
    assert list(results["probes"]) == ["logistic_accuracy"]


def test_a_second_estimator_of_the_same_name_is_numbered():
    config = EvaluationConfig(estimators=({"type": "nll", "samples": 1}, {"type": "nll", "samples": 50}))
    estimates = evaluate(_built(), config, 0)["estimates"]
    assert list(estimates) == ["nll", "bits_per_dimension", "nll#2", "bits_per_dimension#2"]
    assert "K = 50" in estimates["nll#2"]["note"]
    assert estimates["nll#2"]["value"] < estimates["nll"]["value"]


def test_numbers_of_a_diverged_model_are_null_with_a_note():
    built = _built()
    with torch.no_grad():
        built.model.decoder.net[-1].bias.fill_(float("nan"))
    results = evaluate(built, EvaluationConfig(estimators=("elbo",)), 0)
    elbo = results["estimates"]["elbo"]
    assert elbo["value"] is None
    assert elbo["standard_error"] is None
    assert elbo["note"].startswith("not finite: nan")
    assert results["estimates"]["rate"]["value"] is not None
    json.dumps(results, allow_nan=False)


def test_codes_are_posterior_means_or_averages_of_samples():
    built = _built()
    codes, labels = encode(built.model, built.data.test, batch_size=16)
    with torch.no_grad():
        means = built.model.infer(built.data.test.x).mean
    assert torch.allclose(codes, means)
    assert torch.equal(labels, built.data.test.labels)
    assert not codes.requires_grad
    one, _ = encode(built.model, built.data.test, 16, samples=1)
    many, _ = encode(built.model, built.data.test, 16, samples=400)
    assert (many - means).abs().mean() < 0.2 * (one - means).abs().mean()
    assert len(encode(built.model, built.data.test, 16, examples=20)[0]) == 20
    built.data.test.labels = None
    assert encode(built.model, built.data.test)[1] is None


def test_an_estimator_that_asks_for_training_data_sees_them_first():
    class Counting:
        seen = 0

        def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
            self.seen = sum(len(batch) for batch in batches())

        def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
            return {"seen": Estimate(float(self.seen), "examples", count=sum(len(batch) for batch in batches()))}

    class CountingConfig(EstimatorConfig):
        type: Literal["test.counting"] = "test.counting"

        def build(self, context: BuildContext) -> Counting:
            return Counting()

    built = _built()
    config = EvaluationConfig(batch_size=16, examples=10, estimators=(CountingConfig(),))
    seen = evaluate(built, config, seed=0)["estimates"]["seen"]
    assert (seen["value"], seen["count"]) == (len(built.data.train), 10)
