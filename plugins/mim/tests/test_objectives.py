"""MIM and A-MIM on models whose answers are known; every trap of the losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Size, Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.plugins import registry
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse.schedules import LinearSchedule
from uncollapse_latents.distributions import TwoLevel
from uncollapse_mim import AMIM, MIM, AMIMConfig, FixedMixture, MIMConfig, functional, ring

HALF_WAY = Progress(step=1, steps_per_epoch=2)
"""Where a warm-up of two epochs has come to one half."""


def warmup() -> LinearSchedule:
    return LinearSchedule(2.0)


class Points(Distribution):
    """A distribution that gives the points it was made of, in turn."""

    arg_constraints = {}  # noqa: RUF012 - torch's own signature

    def __init__(self, points: Tensor) -> None:
        self.points = points
        super().__init__(Size(), points.shape[1:], validate_args=False)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        (count,) = sample_shape
        return self.points.repeat(-(-count // len(self.points)), *[1] * (self.points.dim() - 1))[:count]


class Anchor(nn.Module):
    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = points

    def forward(self) -> Points:
        return Points(self.points)


class Recorder(nn.Module):
    """Wraps a part and keeps what it was given."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.seen = part, []
        for name in ("feature_shape", "latent_shape"):
            if hasattr(part, name):
                setattr(self, name, getattr(part, name))

    def forward(self, *inputs: Any) -> Any:
        self.seen.append(inputs[0])
        return self.part(*inputs)


class ScoredAt(DiagonalNormal):
    """A Gaussian that keeps what it was scored at."""

    seen: list[Tensor]

    def log_prob(self, value: Tensor) -> Tensor:
        self.seen.append(value)
        return super().log_prob(value)


class ScoredPosterior(nn.Module):
    latent_shape = (1,)

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.seen = part, []

    def forward(self, h: Tensor, progress: Progress | None = None) -> ScoredAt:
        q = self.part(h)
        scored = ScoredAt(q.mean, q.logvar)
        scored.seen = self.seen
        return scored


class BinaryDecoder(nn.Module):
    """Three independent bits whose logits are linear in ``z [..., 1]``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64))

    def forward(self, z: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=self.weight * z, validate_args=False), 1)


class BinaryPosterior(nn.Module):
    latent_shape = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.6, 0.9], dtype=torch.float64))

    def forward(self, h: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        mean = (h * self.weight).sum(-1, keepdim=True)
        return DiagonalNormal(mean, torch.full_like(mean, -1.0))


class Same(nn.Module):
    feature_shape = (3,)

    def forward(self, x: Tensor) -> Tensor:
        return x


def binary_model(linear: Any) -> LatentVariableModel:
    return LatentVariableModel(Same(), BinaryPosterior(), linear.model().prior, BinaryDecoder())


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    return torch.stack([g.sum() for g in torch.autograd.grad(loss, list(module.parameters()))])


# ------------------------------------------------------------------------------------------------ values, closed forms


def agrees(found: Tensor, expected: float, per_example: Tensor) -> bool:
    error = per_example.std() / math.sqrt(len(per_example))
    return abs(found.item() - expected) < 5 * error.item()


def test_amim_of_a_consistent_model_is_the_joint_entropy(linear: Any) -> None:
    loss = AMIM()(linear.model(), Batch(linear.data(20_000)), Progress())
    assert agrees(loss.total, linear.joint_entropy, loss.terms["encode_half"])
    assert loss.terms["encode_half"].shape == (20_000,)
    assert loss.weights == {"beta": 1.0}


@pytest.mark.parametrize(
    ("decode_q_x", "excess"), [("generating", -0.5 * 0.8267273989254375), ("reencoded", 0.0)], ids=str
)
def test_decode_half_with_each_estimate_of_the_marginal(linear: Any, decode_q_x: str, excess: float) -> None:
    objective = MIM(decode_q_x=decode_q_x, anchor=linear.model().prior)
    draws = torch.stack(
        [objective(linear.model(), Batch(linear.data(500)), Progress()).terms["decode_half"] for _ in range(40)]
    )
    assert agrees(draws.mean(), linear.joint_entropy + excess, draws)


def test_with_a_density_of_the_data_both_halves_are_the_joint_entropy(linear: Any) -> None:
    class Density(nn.Module):
        def forward(self) -> DiagonalNormal:
            mean = torch.zeros(1, dtype=torch.float64)
            return DiagonalNormal(mean, mean + math.log(linear.x_variance))

    for loss_name in ("mim", "cross_entropy"):
        objective = MIM(Density(), loss=loss_name, decode_examples=20_000)
        loss = objective(linear.model(), Batch(linear.data(20_000)), Progress())
        assert agrees(loss.terms["encode_half"].mean(), linear.joint_entropy, loss.terms["encode_half"])
        assert agrees(loss.terms["decode_half"], linear.joint_entropy, loss.terms["encode_half"])


def test_marginal_prior_of_the_latent_mirrors_the_marginal_of_the_data(linear: Any) -> None:
    class Density(nn.Module):
        def forward(self) -> DiagonalNormal:
            mean = torch.zeros(1, dtype=torch.float64)
            return DiagonalNormal(mean, mean + math.log(linear.x_variance))

    loss = MIM(Density(), p_z="marginal", decode_examples=20_000)(
        linear.model(), Batch(linear.data(20_000)), Progress()
    )
    # On encoded pairs log p(z) is log q(z|x), too high by the mutual information; on decoded ones it is exact.
    information = 0.8267273989254375
    assert agrees(loss.terms["encode_half"].mean(), linear.joint_entropy - 0.5 * information, loss.terms["encode_half"])
    assert agrees(loss.terms["decode_half"], linear.joint_entropy, loss.terms["encode_half"])


def test_cross_entropy_never_exceeds_mim(linear: Any) -> None:
    terms = [torch.randn(1000, dtype=torch.float64) for _ in range(4)]
    for rule in ("paper", "released_toy"):
        gap = functional.mim_loss(*terms, 0.3, rule) - functional.cross_entropy_loss(*terms, 0.3, rule)
        assert gap.min() >= 0
        assert gap.max() > 0.5
    consistent = [terms[0], terms[1], terms[0], terms[1]]
    assert torch.allclose(functional.mim_loss(*consistent), functional.cross_entropy_loss(*consistent))


# ------------------------------------------------------------------------------------------------------- the halves


def test_encoder_is_scored_at_the_anchor_and_not_at_a_code_of_its_own(linear: Any) -> None:
    model, points = linear.model(), torch.tensor([[0.5], [-1.5], [2.5]], dtype=torch.float64)
    scored = ScoredPosterior(model.posterior)
    model = LatentVariableModel(model.encoder, scored, model.prior, model.decoder)
    MIM(anchor=Anchor(points), decode_examples=3)(model, Batch(linear.data(4)), Progress())
    decoded = [z for z in scored.seen if z.shape == (3, 1)]
    assert len(decoded) == 1
    assert torch.equal(decoded[0], points)


@pytest.mark.parametrize(("halves", "factor"), [("average", 0.5), ("sum", 1.0)])
def test_halves_are_combined_as_named(linear: Any, halves: str, factor: float) -> None:
    loss = MIM(halves=halves)(linear.model(), Batch(linear.data(8)), Progress())
    both = loss.terms["encode_half"].mean() + loss.terms["decode_half"]
    assert torch.allclose(loss.total, factor * both)


def test_decode_half_waits_for_the_end_of_the_warmup_if_asked_to(linear: Any) -> None:
    model, batch = linear.model(), Batch(linear.data(8))
    always, later = (MIM(beta=warmup(), decode_half=when) for when in ("always", "after_warmup"))
    assert "decode_half" in always(model, batch, HALF_WAY).terms
    during = later(model, batch, HALF_WAY)
    assert "decode_half" not in during.terms
    assert torch.equal(during.total, during.terms["encode_half"].mean())
    for progress in (Progress(step=4, steps_per_epoch=2), Progress(step=0, final=True)):
        assert "decode_half" in later(model, batch, progress).terms


def test_validation_is_at_full_weight(linear: Any) -> None:
    loss = MIM(beta=warmup())(linear.model(), Batch(linear.data(8)), Progress(step=0, final=True))
    assert loss.weights == {"beta": 1.0}


@pytest.mark.parametrize("rule", ["paper", "released_toy", "released_image"])
def test_warmup_weights_what_it_names(linear: Any, rule: str) -> None:
    beta = 0.5
    loss = AMIM(beta=warmup(), warmup=rule)(linear.model(), Batch(linear.data(8)), HALF_WAY)
    i = loss.inference
    log_p_z = beta * i.log_p_z if rule == "released_image" else i.log_p_z
    log_q_x = i.log_p_x + log_p_z - i.log_q
    expected = {
        "paper": i.log_p_x + i.log_q + beta * (log_q_x + i.log_p_z),
        "released_toy": i.log_p_x + log_p_z + beta * (i.log_q + log_q_x),
        "released_image": (1 + beta) * (i.log_p_x + beta * i.log_p_z),
    }[rule]
    assert loss.weights == {"beta": beta}
    assert torch.allclose(loss.terms["encode_half"], -0.5 * expected.mean(0))
    # At full weight the three are one.
    torch.manual_seed(1)
    full = AMIM(beta=warmup(), warmup=rule)(linear.model(), Batch(i.x), Progress.at_end())
    assert torch.allclose(full.total, -(full.inference.log_p_x + full.inference.log_p_z).mean())


def test_only_the_top_level_is_annealed() -> None:
    lower = DiagonalNormal(torch.tensor([0.3, -0.2]), torch.tensor([-1.0, 0.5]))
    top = DiagonalNormal(torch.zeros(3), torch.zeros(3))
    z = torch.randn(4, 6, 5)
    from uncollapse_mim.densities import annealed_log_prior

    found = annealed_log_prior(TwoLevel(top, lambda z2: lower.expand(z2.shape[:-1]), 2), z, 0.25)
    assert torch.allclose(found, lower.log_prob(z[..., :2]) + 0.25 * top.log_prob(z[..., 2:]))
    assert torch.allclose(annealed_log_prior(top, z[..., 2:], 0.25), 0.25 * top.log_prob(z[..., 2:]))


def test_anchor_is_the_model_s_prior_only_if_asked_for(linear: Any) -> None:
    model = linear.model()
    recorder = Recorder(model.decoder)
    model = LatentVariableModel(model.encoder, model.posterior, FixedMixture(ring(1, origin=False, dimensions=1, std=1e-3), (1,)).double(), recorder)  # fmt: skip
    MIM(anchor=linear.model().prior)(model, Batch(linear.data(400)), Progress())
    MIM(anchor=None)(model, Batch(linear.data(400)), Progress())
    outside, own = (z for z in recorder.seen if z.shape == (400, 1))
    assert outside.std() > 0.8
    assert own.std() < 0.01
    assert not outside.requires_grad
    assert not own.requires_grad


def test_what_regularizers_read_keeps_its_gradient(linear: Any) -> None:
    loss = AMIM()(linear.model(), Batch(linear.data(8)), Progress())
    assert loss.inference.rate().requires_grad
    assert loss.inference.distortion.requires_grad
    assert not loss.terms["elbo"].requires_grad


# ---------------------------------------------------------------------------------------------- gradients through x


def exact_decode_gradient(linear: Any, nodes: Tensor, weights: Tensor) -> Tensor:
    """The decode half's gradient for the decoder of an inexact encoder, by quadrature: ``x`` moves with it."""
    model = linear.model(slope=0.4, variance=0.3)
    decoder: Any = model.decoder
    z = nodes[:, :1]
    x = decoder.slope * z + (0.5 * decoder.logvar).exp() * nodes[:, 1:]
    log_p_x = model.generate(z).log_prob(x)
    loss = functional.mim_loss(model.infer(x).log_prob(z), log_p_x, log_p_x, model.p_z().log_prob(z))
    return gradients((weights * loss).sum(), decoder)


@pytest.mark.parametrize(
    ("gradient", "baseline"), [("auto", "none"), ("reinforce", "none"), ("reinforce", "leave_one_out")]
)
def test_gradient_through_continuous_data_is_unbiased(
    linear: Any, standard_nodes: Any, gradient: str, baseline: str
) -> None:
    expected = exact_decode_gradient(linear, *standard_nodes(2))
    found = decode_gradients(linear, gradient, baseline)
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() < 5 * error).all()
    assert (error < 0.1 * expected.abs().max()).all()


def test_detached_data_give_another_gradient(linear: Any, standard_nodes: Any) -> None:
    expected = exact_decode_gradient(linear, *standard_nodes(2))
    found = decode_gradients(linear, "detach", "none")
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() > 10 * error).any()


def decode_gradients(linear: Any, gradient: str, baseline: str) -> Tensor:
    """Gradients of the decode half for the decoder's parameters, one row a batch."""
    model = linear.model(slope=0.4, variance=0.3)
    objective = MIM(gradient=gradient, baseline=baseline, anchor=model.prior, decode_examples=1000)
    batch, rows = Batch(linear.data(2)), []
    for _ in range(60):
        loss = objective(model, batch, Progress())
        rows.append(gradients(loss.terms["decode_half"], model.decoder))
    return torch.stack(rows)


@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
def test_gradient_for_discrete_data_is_unbiased(linear: Any, baseline: str) -> None:
    """Against the sum over all eight data, for codes given by the anchor."""
    points = torch.tensor([[0.8], [-1.2]], dtype=torch.float64)
    model = binary_model(linear)
    everything = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    expectation = torch.zeros((), dtype=torch.float64)
    for z in points:
        log_p_x = model.generate(z).log_prob(everything)
        codes = z.expand(8, 1)
        loss = functional.mim_loss(model.infer(everything).log_prob(codes), log_p_x, log_p_x, model.p_z().log_prob(z))
        expectation = expectation + 0.5 * (log_p_x.exp() * loss).sum()
    parameters = list(model.parameters())
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(expectation, parameters)])
    objective = MIM(anchor=Anchor(points), decode_examples=2000, baseline=baseline)
    batch, rows = Batch(torch.zeros(2, 3, dtype=torch.float64)), []
    for _ in range(60):
        half = objective(model, batch, Progress()).terms["decode_half"]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(half, parameters)]))
    found = torch.stack(rows)
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() < 5 * error + 1e-9).all()
    assert error.max() < 0.05 * expected.abs().max()


def test_leave_one_out_takes_noise_away(linear: Any) -> None:
    noise = [decode_gradients(linear, "reinforce", b).std(0).mean() for b in ("none", "leave_one_out")]
    assert noise[1] < 0.9 * noise[0]


def test_reinforce_changes_the_derivative_and_not_the_value() -> None:
    loss = torch.tensor([3.0, -1.0, 5.0], requires_grad=True)
    log_prob = torch.tensor([-2.0, -0.5, -1.0], requires_grad=True)
    for baseline, signal in (("none", [3.0, -1.0, 5.0]), ("leave_one_out", [1.0, -5.0, 4.0])):
        found = functional.reinforce(loss, log_prob, baseline)
        assert torch.equal(found, loss)
        g_loss, g_log = torch.autograd.grad(found.sum(), (loss, log_prob))
        assert g_loss.tolist() == [1.0, 1.0, 1.0]
        assert g_log.tolist() == signal
    alone = functional.reinforce(loss[:1], log_prob[:1], "leave_one_out")
    assert torch.autograd.grad(alone.sum(), log_prob)[0][0] == 3.0


def test_discrete_data_are_constants_and_continuous_ones_are_not(linear: Any) -> None:
    for model, expected in ((linear.model(), True), (binary_model(linear), False)):
        recorder = Recorder(model.encoder)
        wired = LatentVariableModel(recorder, model.posterior, model.prior, model.decoder)
        size = 3 if not expected else 1
        MIM()(wired, Batch(torch.zeros(4, size, dtype=torch.float64)), Progress())
        assert [x.requires_grad for x in recorder.seen] == [False, expected]


def test_released_means_in_the_place_of_binary_samples(linear: Any) -> None:
    for decoded, soft in (("sample", False), ("mean", True)):
        model = binary_model(linear)
        recorder = Recorder(model.encoder)
        wired = LatentVariableModel(recorder, model.posterior, model.prior, model.decoder)
        MIM(decoded=decoded)(wired, Batch(torch.zeros(4, 3, dtype=torch.float64)), Progress())
        x = recorder.seen[1]
        assert bool(((x > 0) & (x < 1)).any()) == soft
        assert not x.requires_grad


def test_at_the_decoder_s_own_mean_reinforce_has_nothing_to_say(linear: Any) -> None:
    """The slope of log p(x|z) vanishes at x = E[x|z], so the released decode half moves the encoder alone."""
    model = binary_model(linear)
    batch = Batch(torch.zeros(4, 3, dtype=torch.float64))
    half = MIM(decoded="mean", gradient="reinforce")(model, batch, Progress()).terms["decode_half"]
    decoder, posterior = torch.autograd.grad(half, [model.decoder.weight, model.posterior.weight])
    assert decoder.abs().max() < 1e-12
    assert posterior.abs().max() > 0.01


# ------------------------------------------------------------------------------------------------------- composition


def built(kind: str, name: str, context: BuildContext, **fields: Any) -> nn.Module:
    config = registry().find(kind, name)
    assert config is not None
    module: nn.Module = config.model_validate(fields).build(context)
    return module


IMAGES = BuildContext(DataSpec((1, 6, 6), "binary"), (4,), (8,), steps_per_epoch=3, epochs=6)
TOKENS = BuildContext(DataSpec((5,), "tokens", vocabulary_size=7), (4,), (8,))


def image_model(decoder: dict[str, Any], posterior: dict[str, Any], prior: dict[str, Any]) -> LatentVariableModel:
    return LatentVariableModel(
        built("encoder", "mlp", IMAGES, hidden=[8]),
        built("posterior", posterior.pop("type"), IMAGES, latent_dim=4, **posterior),
        built("prior", prior.pop("type"), IMAGES, **prior),
        built("decoder", decoder.pop("type"), IMAGES, **decoder),
    )


@pytest.mark.parametrize("decoder", ["pixelcnn", "mlp"])
@pytest.mark.parametrize("posterior", ["gaussian", "iaf"])
@pytest.mark.parametrize("prior", ["standard_normal", "vampprior", "gaussian_mixture"])
def test_trains_with_any_parts(decoder: str, posterior: str, prior: str) -> None:
    fields = {
        "pixelcnn": {"type": "pixelcnn", "kernels": [3, 3], "channels": 4},
        "mlp": {"type": "mlp", "hidden": [8]},
        "gaussian": {"type": "gaussian"},
        "iaf": {"type": "iaf", "hidden": 8, "hidden_layers": 1},
        "standard_normal": {"type": "standard_normal"},
        "vampprior": {"type": "vampprior", "components": 3},
        "gaussian_mixture": {"type": "gaussian_mixture", "components": 3},
    }
    model = image_model(dict(fields[decoder]), dict(fields[posterior]), dict(fields[prior]))
    x = torch.bernoulli(torch.full((6, 1, 6, 6), 0.5))
    objective = MIMConfig(decode_q_x="reencoded", baseline="leave_one_out").build(IMAGES)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(2):
        loss = objective(model, Batch(x), Progress(step, 3))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        assert torch.isfinite(loss.total)
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) >= len(moved) - (prior == "vampprior")


def test_mixture_of_the_decoder_s_own_distributions_over_the_data() -> None:
    model = image_model({"type": "mlp", "hidden": [8]}, {"type": "gaussian"}, {"type": "standard_normal"})
    q_x = {"type": "vampprior", "components": 3, "from_data": False, "mean": 0.0, "std": 1.0}
    objective: Any = MIMConfig(q_x=q_x).build(IMAGES)
    assert objective.q_x.pseudo_inputs.shape == (3, 4)
    x = torch.bernoulli(torch.full((6, 1, 6, 6), 0.5))
    loss = objective(model, Batch(x), Progress())
    components = model.generate(objective.q_x.pseudo_inputs)
    expected = components.log_prob(x[:, None]).logsumexp(1) - math.log(3)
    i = loss.inference
    log_q_x = 2 * -loss.terms["encode_half"] - (i.log_q + i.log_p_x + i.log_p_z)[0]
    assert torch.allclose(log_q_x, expected, atol=1e-3)
    gradient = torch.autograd.grad(loss.total, objective.q_x.pseudo_inputs)[0]
    assert gradient.abs().sum() > 0


# ------------------------------------------------------------------------------------------------------------ configs


def test_two_marginals_average_over_each_other() -> None:
    with pytest.raises(ConfigError, match=r"objective.p_z: 'marginal' is an average over q\(x\)"):
        AMIM(p_z="marginal")
    with pytest.raises(ValueError, match="q_x must be a density"):
        AMIMConfig(p_z="marginal")


@pytest.mark.parametrize("context", [IMAGES, TOKENS], ids=["binary", "tokens"])
def test_density_over_real_numbers_does_not_fit_discrete_data(context: BuildContext) -> None:
    with pytest.raises(ConfigError, match=r"objective.q_x: 'gaussian_mixture' is a density over real numbers"):
        AMIMConfig(q_x="gaussian_mixture").build(context)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"beta": 1.5}, "expected a weight from 0 to 1, found 1.5"),
        ({"beta": {"type": "linear", "until_epoch": 3, "start": -1.0}}, "start: expected a weight from 0 to 1"),
        ({"gradient": "detach", "baseline": "leave_one_out"}, "belongs to REINFORCE"),
        ({"halves": "mean"}, "halves"),
        ({"anchor": "normal"}, "anchor"),
    ],
)
def test_config_refuses(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MIMConfig(**wrong)


def test_config_builds_what_it_says() -> None:
    built_default: Any = MIMConfig().build(IMAGES)
    text = repr(built_default).splitlines()[1].strip()
    assert text == (
        "loss='mim', warmup='paper', p_z='model', samples=1, halves='average', decode_half='always', "
        "decode_q_x='generating', decoded='sample', gradient='auto', baseline='none'"
    )
    assert built_default.q_x is None
    assert type(built_default.anchor()).__name__ == "StandardNormal"
    assert built_default.decode_examples is None
    assert MIMConfig(anchor=None).build(IMAGES).anchor is None
    learned: Any = MIMConfig(anchor="gaussian_mixture").build(IMAGES).anchor
    assert not any(p.requires_grad for p in learned.parameters())


@pytest.mark.parametrize("function", [functional.combine, functional.reinforce])
def test_unknown_names_are_refused(function: Any) -> None:
    t = torch.zeros(2)
    with pytest.raises(ValueError, match="must be"):
        function(t, t, "other")
