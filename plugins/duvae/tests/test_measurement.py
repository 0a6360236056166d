"""Estimator, probes, synthetic texts, and the plugin as a whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from uncollapse.config import BuildContext, ComponentConfig
from uncollapse.errors import ConfigError, DataError
from uncollapse.estimators import ImportanceWeightedNLL
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import Batch, DataSpec
from uncollapse_duvae import (
    BatchNormalizedMeans,
    BatchNormalizedMeansConfig,
    ConditionalEntropy,
    GroupedProbe,
    GroupedProbeConfig,
    LinearProbe,
    SyntheticTextConfig,
    VarianceDropout,
    VarianceDropoutConfig,
    functional,
)
from uncollapse_duvae.classifiers import LinearClassifier, train_by_epochs, train_with_validation
from uncollapse_duvae.plugin import uncollapse_components
from uncollapse_duvae.synthetic import RandomLSTM
from uncollapse_kit import assert_conforms, reference_model
from uncollapse_latents.posteriors import InverseAutoregressivePosterior
from uncollapse_measures.estimators import pair_statistics
from uncollapse_report.demo import demo_pipelines

CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary", classes=3), (5,), (6,))

# ------------------------------------------------------------------------------------------------------------ measures


def test_dropout_raises_divergence_and_lowers_entropy() -> None:
    """Proposition 1, by its closed form and by drawing."""
    mean = torch.randn(200, 3, dtype=torch.float64)
    raw = torch.randn(200, 3, dtype=torch.float64)
    logvar = functional.floor_variance(raw)
    drawn, entropies = [], []
    for _ in range(200):
        dropped = functional.drop_variance(raw, torch.bernoulli(torch.full_like(raw, 0.8)), 0.8)
        drawn.append(pair_statistics(mean, dropped).mean)
        entropies.append(functional.conditional_entropy(dropped).sum())
    values = torch.tensor(drawn)
    exact = functional.divergence_under_dropout(mean, logvar, 0.8).sum()
    error = values.std() / math.sqrt(len(values))
    # The closed form is over independent examples, which may be the same one; drawn pairs are of different ones.
    assert abs(values.mean() * 199 / 200 - exact) < 5 * error + 0.02 * exact
    assert exact > pair_statistics(mean, logvar).mean
    assert torch.stack(entropies).mean() < functional.conditional_entropy(logvar).sum()
    variances = mean.var(0, unbiased=False).sum().item()
    assert exact > functional.divergence_bound(variances, 0.8)


def test_entropy_of_a_model() -> None:
    model = reference_model(CONTEXT)
    x = torch.bernoulli(torch.full((60, 1, 4, 4), 0.5))
    found = ConditionalEntropy()(model, lambda: [Batch(x[:40]), Batch(x[40:])])["conditional_entropy"]
    entropies = model.infer(x).entropy()
    assert (found.unit, found.count, found.note) == ("nats", 60, "")
    assert found.value == pytest.approx(entropies.mean().item(), rel=1e-5)
    assert sum(found.per_dimension) == pytest.approx(found.value, rel=1e-6)
    assert found.standard_error == pytest.approx(entropies.std().item() / math.sqrt(60), rel=1e-4)


def test_nothing_is_dropped_where_a_model_is_measured() -> None:
    """Nor in the importance-weighted likelihood, nor while the model is in training mode."""
    model = reference_model(CONTEXT)
    moments = [BatchNormalizedMeans((5,)), VarianceDropout(keep=0.5)]
    model.posterior = GaussianPosterior(model.encoder.feature_shape, (5,), moments)
    batch = Batch(torch.bernoulli(torch.full((30, 1, 4, 4), 0.5)))
    values = []
    for training in (False, True):
        model.train(training)
        torch.manual_seed(0)
        found = {**ConditionalEntropy()(model, lambda: [batch]), **ImportanceWeightedNLL(4)(model, lambda: [batch])}
        values.append([found[name].value for name in ("conditional_entropy", "nll")])
        assert model.posterior.training == training
    assert values[0] == values[1]
    assert moments[0].running_mean.abs().sum() == 0


def test_entropy_of_a_flow_is_that_of_its_base_an_upper_bound() -> None:
    model = reference_model(CONTEXT)
    model.posterior = InverseAutoregressivePosterior(model.encoder.feature_shape, 5, hidden=8)
    x = torch.bernoulli(torch.full((30, 1, 4, 4), 0.5))
    found = ConditionalEntropy()(model, lambda: [Batch(x)])["conditional_entropy"]
    q = model.infer(x)
    assert found.note == "of the Gaussians under the flow"
    assert found.value == pytest.approx(q.base.entropy().mean().item(), rel=1e-5)
    assert found.value > -q.rsample_and_log_prob((200,))[1].mean().item()


def test_entropy_needs_a_gaussian_base() -> None:
    model = reference_model(CONTEXT)
    laplace = torch.distributions.Independent(torch.distributions.Laplace(torch.zeros(4, 5), torch.ones(4, 5)), 1)
    model.infer = lambda x, progress=None: laplace  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"duvae.conditional_entropy\): .*found Independent"):
        ConditionalEntropy()(model, lambda: [Batch(torch.zeros(4, 1, 4, 4))])


# -------------------------------------------------------------------------------------------------------------- probes


def clusters(count: int, classes: int, seed: int, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    angles = 2 * math.pi * labels / classes
    return torch.stack([angles.cos(), angles.sin()], 1) + spread * torch.randn(count, 2, generator=generator), labels


def test_linear_probe_learns_from_some_labels() -> None:
    train, test = clusters(600, 4, 0), clusters(300, 4, 1)
    scores = LinearProbe(labels=(20, 200, "all"), draws=2)(*train, *test)
    assert set(scores) == {"duvae_linear_accuracy_20", "duvae_linear_accuracy_200", "duvae_linear_accuracy"}
    assert scores["duvae_linear_accuracy_20"].value > 0.85
    assert scores["duvae_linear_accuracy_200"].value > 0.93
    assert "400 further labels choose the weights" in scores["duvae_linear_accuracy_200"].note
    assert "120 further labels choose the weights" in scores["duvae_linear_accuracy"].note


def test_weights_are_chosen_by_validation() -> None:
    """Labels of training are wrong: whatever is learned makes validation worse, so the first epoch's weights stay."""
    codes, labels = clusters(80, 2, 0)
    wrong = 1 - labels
    arrays = codes.double().numpy(), wrong.numpy().astype(np.int64)
    held = codes.double().numpy(), labels.numpy().astype(np.int64)
    layer = train_with_validation(*arrays, held, 2, seed=0, epochs=40)
    once = train_with_validation(*arrays, held, 2, seed=0, epochs=1)
    assert np.array_equal(layer.weight, once.weight)


def test_epochs_are_those_of_torch_s_adam() -> None:
    codes, labels = clusters(60, 3, 0)
    arrays = codes.double().numpy(), labels.numpy().astype(np.int64)
    found = train_by_epochs(*arrays, 3, seed=4, epochs=2, batch_size=59)
    weight, bias = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    optimizer = torch.optim.Adam([weight.requires_grad_(), bias.requires_grad_()], lr=1e-3)
    rng = np.random.default_rng(4)
    for _ in range(2):
        # The sixtieth example, a batch of its own, is left out.
        chosen = torch.from_numpy(rng.permutation(60)[:59])
        optimizer.zero_grad()
        scores = codes.double()[chosen] @ weight.T + bias
        torch.nn.functional.cross_entropy(scores, labels[chosen], reduction="sum").backward()
        optimizer.step()
    assert np.allclose(found.weight, weight.detach().numpy(), rtol=1e-6)
    assert np.allclose(found.bias, bias.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("clip", [5.0, 0.1])
def test_a_step_is_torch_s(clip: float) -> None:
    rng = np.random.default_rng(0)
    codes, labels = 3 * rng.normal(size=(7, 5)), rng.integers(0, 4, 7)
    before = LinearClassifier(rng.normal(size=(4, 5)), rng.normal(size=4))
    after = before.stepped(codes, labels, 0.5, clip)
    weight, bias = (torch.from_numpy(t.copy()).requires_grad_() for t in (before.weight, before.bias))
    scores = torch.from_numpy(codes) @ weight.T + bias
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels))
    assert before.loss(codes, labels) == pytest.approx(loss.item())
    loss.backward()
    torch.nn.utils.clip_grad_norm_([weight, bias], clip)
    torch.optim.SGD([weight, bias], 0.5).step()
    assert np.allclose(after.weight, weight.detach().numpy(), rtol=1e-5)
    assert np.allclose(after.bias, bias.detach().numpy(), rtol=1e-5)
    assert np.array_equal(after.predict(codes), (codes @ after.weight.T + after.bias).argmax(1))


def grouped(seed: int, per_class: int, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Two alphabets of three characters; those of the second lie where those of the first do, in another order."""
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * math.pi / 3 * torch.tensor([0.0, 1.0, 2.0, 1.0, 2.0, 0.0])
    places = 10 * torch.stack([angles.cos(), angles.sin()], 1).repeat(1, 8)
    labels = torch.arange(6).repeat_interleave(per_class)
    return places[labels] + spread * torch.randn(len(labels), 16, generator=generator), labels


NAMES = ("greek/a", "greek/b", "greek/c", "latin/a", "latin/b", "latin/c")


def test_alphabets_have_classifiers_of_their_own() -> None:
    train, test = grouped(0, 12), grouped(1, 5)
    apart = GroupedProbe(NAMES, per_class=(5, 10), epochs=150)(*train, *test)
    together = GroupedProbe((), per_class=(10,), epochs=150)(*train, *test)
    assert apart["grouped_accuracy_10"].value > 0.95
    assert apart["grouped_accuracy_5"].count == 2
    assert together["grouped_accuracy_10"].value < 0.7
    assert together["grouped_accuracy_10"].count == 1


def test_grouped_probe_takes_so_many_examples_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from uncollapse_duvae import probes

    seen = []
    real = probes.train_by_epochs

    def spy(codes: Any, labels: Any, classes: int, **options: Any) -> Any:
        seen.append((np.bincount(labels, minlength=classes).tolist(), classes))
        return real(codes, labels, classes, seed=0, epochs=1)

    monkeypatch.setattr(probes, "train_by_epochs", spy)
    codes, labels = grouped(0, 12)
    few = labels != 4
    few[torch.nonzero(labels == 4)[:3, 0]] = True
    GroupedProbe(NAMES, per_class=(5,))(codes[few], labels[few], *grouped(1, 2))
    assert seen == [([5, 5, 5], 3), ([5, 3, 5], 3)]


def test_grouped_probe_needs_test_examples() -> None:
    codes, labels = grouped(0, 4)
    latin = labels > 2
    with pytest.raises(ConfigError, match="no group of classes has both training and test examples"):
        GroupedProbe(NAMES)(codes[latin], labels[latin], codes[~latin], labels[~latin])


def test_grouped_probe_refuses_the_codes_of_a_diverged_encoder() -> None:
    codes, labels = grouped(0, 4)
    broken = codes.clone()
    broken[3, 2] = math.inf
    with pytest.raises(DataError, match="the encoder has diverged"):
        GroupedProbe(NAMES)(broken, labels, codes, labels)


def test_names_of_the_labels_come_with_the_data() -> None:
    context = BuildContext(CONTEXT.data, label_names=NAMES)
    assert GroupedProbeConfig().build(context).label_names == NAMES
    digits = demo_pipelines()["vae"].build()
    assert digits.context.label_names == tuple("0123456789")


# ----------------------------------------------------------------------------------------------------- synthetic texts


@pytest.fixture(scope="module")
def texts() -> Any:
    return SyntheticTextConfig(train=2000, validation=100, test=300).build(0)


def test_texts_are_what_the_config_says(texts: Any) -> None:
    spec = texts.spec
    assert (spec.event_shape, spec.vocabulary_size, spec.classes) == ((11,), 1004, 5)
    (batch,) = texts.train.batches(2000)
    assert batch.x.shape == (2000, 11)
    assert (batch.x[:, -1] == spec.special.end).all()
    assert batch.x[:, :-1].min() >= 4
    assert batch.x.max() < 1004
    assert torch.bincount(batch.labels).min() > 300
    assert (texts.train.lengths == 11).all()


def test_words_are_drawn_as_the_network_says() -> None:
    generator = torch.Generator().manual_seed(0)
    network = RandomLSTM(6, 2, 4, 3, 1.0, generator)
    z = torch.tensor([[1.0, -2.0]])
    drawn = network.sample(z.expand(20_000, 2), 2, generator)
    cell = network.start(z)
    start = torch.cat([network.embed(torch.tensor([6])), z], 1)
    state = network.cell(start, (cell.tanh(), cell))
    first = network.head(state[0]).softmax(1)[0].detach()
    assert torch.allclose(torch.bincount(drawn[:, 0], minlength=6) / 20_000, first, atol=0.02)
    word = int(drawn[:, 0].mode().values)
    state = network.cell(torch.cat([network.embed(torch.tensor([word])), z], 1), state)
    second = network.head(state[0]).softmax(1)[0].detach()
    followers = drawn[drawn[:, 0] == word, 1]
    assert torch.allclose(torch.bincount(followers, minlength=6) / len(followers), second, atol=0.04)


def test_latents_are_five_gaussians(texts: Any) -> None:
    z, labels = texts.latents["train"], texts.train.labels
    centres = torch.stack([z[labels == k].mean(0) for k in range(5)])
    expected = torch.tensor([[0.0, 0.0], [-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])
    assert torch.allclose(centres, expected, atol=0.2)
    assert z[labels == 1].std(0).mean().item() == pytest.approx(1.0, abs=0.08)


def test_texts_tell_their_component(texts: Any) -> None:
    """Words of outer components differ from each other's more than those of one component from its own half."""
    tokens, labels = texts.train._tokens.view(-1, 11)[:, :10].long(), texts.train.labels

    def frequencies(rows: Tensor) -> Tensor:
        return torch.bincount(rows.flatten(), minlength=1004).double() / rows.numel()

    halves = [frequencies(tokens[labels == 1][i::2]) for i in (0, 1)]
    other = frequencies(tokens[labels == 4])
    assert (halves[0] - other).abs().sum() > 1.3 * (halves[0] - halves[1]).abs().sum()


def test_texts_do_not_depend_on_the_run_s_seed() -> None:
    small = {"train": 40, "validation": 10, "test": 30, "words": 50, "hidden": 8, "embedding": 8}
    first, again = (SyntheticTextConfig(**small).build(seed) for seed in (0, 7))
    assert torch.equal(first.test._tokens, again.test._tokens)
    other = SyntheticTextConfig(**small, split_seed=1).build(0)
    assert not torch.equal(first.test._tokens, other.test._tokens)


def test_texts_can_be_read(texts: Any) -> None:
    batch = next(iter(texts.test.batches(3)))
    words = texts.to_texts(batch.x)
    assert [len(text.split()) for text in words] == [10, 10, 10]
    assert torch.equal(texts.to_tokens(words), batch.x)


# -------------------------------------------------------------------------------------------------------------- plugin


@pytest.mark.parametrize("component", uncollapse_components(), ids=lambda c: f"{c.kind}:{c.type_name()}")
def test_conforms(component: type[ComponentConfig]) -> None:
    examples = [SyntheticTextConfig(train=200, validation=60, test=60)] if component is SyntheticTextConfig else ()
    assert_conforms(component, examples=examples)


def test_released_normalization_conforms() -> None:
    assert_conforms(BatchNormalizedMeansConfig(rescale="each_forward"))


def test_demo_turns_the_plain_vae_into_du_vae() -> None:
    pipelines = demo_pipelines()
    plain, ours = pipelines["vae"].config, pipelines["duvae"].config
    moments = ours.model.posterior.moments
    assert [type(m) for m in moments] == [BatchNormalizedMeansConfig, VarianceDropoutConfig]
    same = plain.model.posterior.model_copy(update={"moments": moments})
    assert ours.model == plain.model.model_copy(update={"posterior": same})
    assert (ours.data, ours.objective, ours.training) == (plain.data, plain.objective, plain.training)
