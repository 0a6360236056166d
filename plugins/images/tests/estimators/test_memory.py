"""Budgets: what they bound, measured by the allocator itself, and that they change no number."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from uncollapse import Batch, DataSpec, LatentVariableModel
from uncollapse.config import BuildContext
from uncollapse.decoders import ConvDecoder, MLPDecoder
from uncollapse.encoders import MLPEncoder
from uncollapse.errors import ConfigError
from uncollapse.estimators import ELBOEstimator, ImportanceWeightedNLL
from uncollapse.estimators import draws as draws_module
from uncollapse.estimators.memory import Footprint, parse_memory, peak_bytes
from uncollapse.estimators.nll import ImportanceWeightedNLLConfig
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors.standard_normal import StandardNormalPriorConfig
from uncollapse_images.decoders import AutoregressivePixels
from uncollapse_images.decoders.gated_pixelcnn import GatedPixelCNNDecoder

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")


def model_with(decoder: nn.Module, latent: int = 4) -> LatentVariableModel:
    encoder = MLPEncoder(SHAPE, [16])
    prior = StandardNormalPriorConfig().build(BuildContext(DataSpec(SHAPE, "binary"), (latent,)))
    return LatentVariableModel(encoder, GaussianPosterior(encoder.feature_shape, (latent,)), prior, decoder)


def decoder_named(name: str) -> nn.Module:
    likelihood = BernoulliLikelihood(SHAPE)
    if name == "mlp":
        return MLPDecoder((4,), SHAPE, likelihood, (64,))
    if name == "conv":
        return ConvDecoder((4,), SHAPE, likelihood, (32, 16))
    condition = "horizontal" if name == "shared" else "both"
    return GatedPixelCNNDecoder((4,), SHAPE, likelihood, (3, 3), 8, condition=condition)


DECODERS = ["mlp", "conv", "gated", "shared"]


def images(count: int) -> torch.Tensor:
    return (torch.rand(count, *SHAPE) < 0.4).float()


def allocated(function) -> int:
    """The peak of what torch's allocator gave out while ``function`` ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 GB", 10**9),
        ("1.5 MB", 1_500_000),
        ("512 MiB", 512 * 2**20),
        ("2gib", 2 * 2**30),
        (" .5 KB ", 500),
        ("7 B", 7),
    ],
)
def test_amounts_of_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["1", "GB", "", "1 GBit", "-1 GB", "1,5 GB", "0 GB", "0.2 B", "1 GB 2 MB", 1000, 1.5, None]
)
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(
        ValueError, match=r"expected an amount of memory such as '500 MB' or '1 GiB', found .*units: B, KB"
    ):
        ImportanceWeightedNLLConfig(memory=text)
    with pytest.raises(ValueError, match="expected an amount of memory"):
        ImportanceWeightedNLL(memory=text)(model_with(decoder_named("mlp")), lambda: [Batch(images(2))])


@pytest.mark.parametrize("name", DECODERS)
def test_budgets_change_no_number(name):
    model, x = model_with(decoder_named(name)).double(), images(7).double()
    need = footprint(model, x)
    found = {}
    one, some, more = (need.image + need.latent, need.image + 4 * need.latent, 3 * (need.image + 10 * need.latent))
    for memory in ("1 GB", f"{one} B", f"{some} B", f"{more} B"):
        torch.manual_seed(1)
        found[memory] = ImportanceWeightedNLL(10, memory)(model, lambda: [Batch(x[:5]), Batch(x[5:])])["nll"]
    first = found["1 GB"]
    for nll in found.values():
        assert nll.value == pytest.approx(first.value, abs=1e-10)
        assert nll.standard_error == pytest.approx(first.standard_error, abs=1e-10)


@pytest.mark.parametrize("many", [8192, 8])
@pytest.mark.parametrize("name", DECODERS)
def test_numbers_are_those_of_the_definition(monkeypatch, name, many):
    # One draw of all examples, or at most eight latents at once: several groups, and several draws of an example.
    monkeypatch.setattr(draws_module, "_AT_ONCE", many)
    model, x, samples = model_with(decoder_named(name)).double().eval(), images(5).double(), 12
    torch.manual_seed(1)
    found = ImportanceWeightedNLL(samples)(model, lambda: [Batch(x)])["nll"].value
    torch.manual_seed(1)
    values = []
    with torch.no_grad():
        for some in x.split(max(1, many // samples)):
            q = model.infer(some)
            z = torch.cat([q.rsample((min(many, samples - k),)) for k in range(0, samples, many)])
            for b in range(len(some)):
                weights = []
                for z_k in z[:, b]:
                    logits = model.generate(z_k[None]).log_prob(some[b : b + 1])[0]
                    weights.append(
                        logits + model.p_z().log_prob(z_k) - model.infer(some[b : b + 1]).log_prob(z_k[None])[0]
                    )
                values.append(torch.tensor(samples).double().log() - torch.stack(weights).logsumexp(0))
    assert found == pytest.approx(torch.stack(values).mean().item(), abs=1e-10)


def footprint(model: LatentVariableModel, x: torch.Tensor) -> Footprint:
    with torch.no_grad():
        return Footprint.measure(lambda z, x: model.generate(z).log_prob(x), torch.zeros(1, 1, 4).to(x), x)


@pytest.mark.parametrize("name", DECODERS)
def test_peak_is_what_the_allocator_gives_out(name):
    model, x = model_with(decoder_named(name)).eval(), images(1)
    z = torch.randn(200, 1, 4)

    def density() -> None:
        model.generate(z).log_prob(x)

    with torch.no_grad():
        density()
        given_out = allocated(density)
        # What convolutions copy for themselves is not seen: their weights, and small maps.
        unseen = {"conv": 0.25}.get(name, 0.02)
        assert peak_bytes(density, CPU) == pytest.approx(given_out, rel=unseen, abs=60_000)
        # Two and four latents tell what many need.
        need = footprint(model, x)
        assert need.image + 200 * need.latent == pytest.approx(given_out, rel=unseen, abs=60_000)


@pytest.mark.parametrize("name", DECODERS)
def test_budget_is_kept_and_used(name):
    model, x = model_with(decoder_named(name)).eval(), images(4)
    need = footprint(model, x)
    budget = need.image + 40 * need.latent
    estimator = ImportanceWeightedNLL(150, f"{budget} B")
    estimator(model, lambda: [Batch(x)])
    peak = allocated(lambda: estimator(model, lambda: [Batch(x)]))
    # Beside the decoder's pass: the draws of all four images, what they are made of, and their log densities.
    beside = 150 * 4 * (5 * 4 * 4 + 6 * 8) + 60_000
    assert 0.9 * budget < peak < budget + beside


def test_a_latent_larger_than_the_budget_is_an_error():
    model = model_with(decoder_named("gated"))
    with pytest.raises(
        ConfigError, match=r"memory: one latent of this model takes \d+(\.\d+)?KB, more than the 1.0KB allowed"
    ):
        ImportanceWeightedNLL(5, "1 KB")(model, lambda: [Batch(images(2))])


def test_an_image_is_shared_by_as_many_latents_as_fit():
    need = Footprint(image=100, latent=10)
    cuda = torch.device("cuda")
    assert need.chunk(10**6, 500, 16, cuda) == (500, 16)
    assert need.chunk(2 * 5100, 500, 16, cuda) == (500, 2)
    # All but one of 500 would fit: two equal halves rather than 499 and 1.
    assert need.chunk(5099, 500, 16, cuda) == (250, 1)
    assert need.chunk(110, 500, 16, cuda) == (1, 1)
    with pytest.raises(ConfigError):
        need.chunk(109, 500, 16, cuda)


def test_a_processor_s_cache_is_a_bound_of_its_own():
    assert Footprint(0, 10_000).chunk(10**12, 500, 100, CPU) == (500, 3)
    # However large a latent, so many go together that sharing the image pays.
    assert Footprint(10**7, 10**6).chunk(10**12, 320, 100, CPU) == (32, 1)
    assert Footprint(10**7, 10**6).chunk(14 * 10**6, 320, 100, CPU) == (4, 1)


class Counting(nn.Module):
    """A network whose outputs ignore everything, and that writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, x: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(x), len(conditioning)))
        return conditioning.sum(1)[:, None, None, None].expand(-1, *SHAPE)


class Shares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Counting()

    def forward(self, z: torch.Tensor) -> AutoregressivePixels:
        return AutoregressivePixels(self.network, BernoulliLikelihood(SHAPE), z, z.shape[:-1], torch.Size(SHAPE))


def test_an_autoregressive_network_sees_each_image_once():
    model = model_with(Shares())
    ImportanceWeightedNLL(50)(model, lambda: [Batch(images(6))])
    assert model.decoder.network.seen == [(1, 2), (1, 4), (6, 300)]


def test_each_width_of_texts_is_measured_for_itself():
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[tuple[int, int]] = []

        def forward(self, z: torch.Tensor) -> torch.distributions.Distribution:
            outer = self

            class Reading(torch.distributions.Distribution):
                def log_prob(self, x: torch.Tensor) -> torch.Tensor:
                    outer.sizes.append((len(z), x.shape[-1]))
                    return (z.sum(-1, keepdim=True) * x).sum(-1)

            return Reading(z.shape[:-1], x[0].shape, validate_args=False)

    x = torch.randn(3, 6)
    encoder = nn.Linear(1, 8)
    model = model_with(Wide())
    model.infer = lambda x, _: torch.distributions.Independent(  # type: ignore[method-assign]
        torch.distributions.Normal(torch.zeros(len(x), 4), encoder.weight.new_ones(())), 1
    )
    ELBOEstimator(7, "monte_carlo")(model, lambda: [Batch(x), Batch(x[:, :4]), Batch(x)])
    assert model.decoder.sizes == [(2, 6), (4, 6), (7, 6), (2, 4), (4, 4), (7, 4), (7, 6)]
