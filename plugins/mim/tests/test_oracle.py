"""Against reference numbers made by running the released code, and by numpy from the paper's equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal
from uncollapse.inference import Inference
from uncollapse.likelihoods import BernoulliPixels
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from uncollapse_latents.distributions import TwoLevel
from uncollapse_mim import functional, ring
from uncollapse_mim.densities import LogDensities
from uncollapse_mim.functional import ksg

BETAS = {"0": 0.0, "0.25": 0.25, "1": 1.0}


def tensors(raw: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in raw.items()}


class TestLossTerms:
    """Every number of ``mim_loss_terms``: no key may be left over."""

    @pytest.fixture(params=["small", "big"])
    def case(self, request: pytest.FixtureRequest, oracle: Any) -> tuple[dict[str, Any], dict[str, Any], float]:
        reference = oracle("mim_loss_terms")
        return reference["inputs"][request.param], reference["expected"][request.param], reference["rtol"]

    @pytest.mark.parametrize("half", ["enc", "dec"])
    def test_each_half(self, case: Any, half: str) -> None:
        inputs, expected, rtol = case
        d = tensors(inputs[half])
        log_q_z, log_p_x, log_p_z = d["log_q_z_given_x"], d["log_p_x_given_z"], d["log_p_z"]
        marginal = functional.marginal_log_density(log_p_x, log_p_z, log_q_z) if half == "enc" else log_p_x
        vae = (log_q_z - log_p_z - log_p_x).mean()
        found = {"toycode_vae_beta1": vae}
        for name, log_q_x in (("parametric", d["log_q_x_parametric"]), ("marginal", marginal)):
            terms = (log_q_z, log_q_x, log_p_x, log_p_z)
            algorithm = "alg1_parametric_qx" if name == "parametric" else "alg2_marginal_qx"
            found[algorithm] = functional.mim_loss(*terms).mean()
            found[f"toycode_vae_plus_H_{name}"] = vae + functional.joint_entropy(log_q_z, log_q_x).mean()
            for label, beta in BETAS.items():
                released = functional.mim_loss(*terms, beta, "released_toy")
                reduced = functional.mim_minus_entropy_loss(*terms, beta, "released_toy")
                found[f"toycode_mim_{name}_beta{label}"] = released.mean()
                found[f"toycode_mim_reinforce_{name}_beta{label}"] = functional.reinforce(released, log_p_x).mean()
                found[f"toycode_mim_minus_H_{name}_beta{label}"] = reduced.mean()
                found[f"paper_eq12_{name}_beta{label}"] = functional.mim_loss(*terms, beta, "paper").mean()
        assert set(found) == set(expected[half])
        for name, value in found.items():
            assert_allclose(value.item(), expected[half][name], rtol=rtol, atol=1e-10, err_msg=name)

    def test_both_halves(self, case: Any) -> None:
        inputs, expected, rtol = case
        losses = {}
        for half in ("enc", "dec"):
            d = tensors(inputs[half])
            terms = [d[n] for n in ("log_q_z_given_x", "log_q_x_parametric", "log_p_x_given_z", "log_p_z")]
            losses[half] = functional.mim_loss(*terms).mean()
            marginal = d["log_p_x_given_z"]
            if half == "enc":
                marginal = functional.marginal_log_density(marginal, d["log_p_z"], d["log_q_z_given_x"])
            losses[f"{half} marginal"] = functional.mim_loss(terms[0], marginal, terms[2], terms[3]).mean()
        found = {
            "alg1_total_mean_over_2N (N/2 per half)": functional.combine(losses["enc"], losses["dec"]),
            "alg2_total_half_sum": functional.combine(losses["enc marginal"], losses["dec marginal"]),
            "code_train_objective_sum_no_half_beta1": functional.combine(
                losses["enc marginal"], losses["dec marginal"], "sum"
            ),
        }
        assert set(found) == set(expected) - {"enc", "dec"}
        for name, value in found.items():
            assert_allclose(value.item(), expected[name], rtol=rtol, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", ["small", "big"])
def test_image_loss_of_two_levels(oracle: Any, name: str) -> None:
    """The released A-MIM loss leaves out ``log 2π``, with the weights that its other terms have."""
    reference = oracle("mim_image_loss")
    inputs, expected = tensors(reference["inputs"][name]), reference["expected"][name]

    def agrees(value: Tensor, key: str) -> None:
        assert_allclose(value.numpy(), expected[key], rtol=reference["rtol"], atol=1e-10, err_msg=key)

    probabilities = inputs["x_mean"].clamp(1e-5, 1 - 1e-5)
    size = inputs["z1"].shape[1]
    inference = Inference(
        x=inputs["x"],
        h=inputs["x"],
        q=DiagonalNormal(
            torch.cat([inputs["q_z1_mean"], inputs["q_z2_mean"]], 1),
            torch.cat([inputs["q_z1_logvar"], inputs["q_z2_logvar"]], 1),
        ),
        z=torch.cat([inputs["z1"], inputs["z2"]], 1)[None],
        p_z=TwoLevel(
            DiagonalNormal(*torch.zeros(2, size, dtype=torch.float64)),
            lambda z2: DiagonalNormal(inputs["p_z1_mean"], inputs["p_z1_logvar"]),
            size,
        ),
        p_x=BernoulliPixels(probabilities.logit()[None], 1),
    )
    agrees(inference.log_p_x[0], "code_log_p_x_given_z")
    agrees(inference.rate("monte_carlo"), "code_KL")
    constant = 0.5 * size * math.log(2 * math.pi)
    for label, beta in BETAS.items():
        terms = LogDensities.of_encoded(inference, None, "model", beta, "released_image")
        loss = functional.mim_loss(
            terms.log_q_z, terms.log_q_x, terms.log_p_x, terms.log_p_z, beta, "released_image"
        )  # fmt: skip
        agrees(loss[0] - 0.5 * (1 + beta) * (1 + beta) * constant, f"code_amim_loss_beta{label}")
        agrees(-inference.log_p_x[0] + beta * inference.rate("monte_carlo"), f"code_vae_loss_beta{label}")
        if beta == 1:
            agrees(loss[0], "normalized_amim_loss_beta1 (with 2pi constants)")
            paper = LogDensities.of_encoded(inference, None)
            assert torch.allclose(loss, -(paper.log_p_x + paper.log_p_z))


@pytest.mark.parametrize("name", ["toy4", "toy4_20", "toy-4"])
def test_mixture_layouts(oracle: Any, name: str) -> None:
    reference = oracle("mim_toy_gmm")
    inputs, expected = reference["inputs"][name], reference["expected"][name]
    found = ring(abs(int(inputs["k"])), origin=int(inputs["k"]) >= 0, dimensions=inputs["d"])
    assert_allclose(found.means, expected["locs"], rtol=1e-5, atol=1e-6)
    assert_allclose(found.stds, expected["scales"], rtol=1e-6)
    assert_allclose(found.weights, expected["weights"], rtol=1e-6)
    points = torch.tensor(inputs["points"], dtype=torch.float32)
    density = registry().find("prior", "mim.mixture")
    assert density is not None
    config = density.model_validate({"ring": abs(int(inputs["k"])), "origin": int(inputs["k"]) >= 0})
    context = BuildContext(DataSpec((1,), "real"), latent_shape=(inputs["d"],))
    log_prob = config.build(context)().log_prob(points)
    assert_allclose(log_prob, expected["log_prob"], rtol=reference["rtol"], atol=1e-5)


def test_neighbours(oracle: Any) -> None:
    reference = oracle("ksg_mi")
    compared = 0
    for name, inputs in reference["inputs"].items():
        expected = reference["expected"][name]
        for k in inputs["k"]:
            first = ksg(inputs["x"], inputs["y"], int(k)).value
            for key in ("knnie_kraskov_mi", "ksg1_bruteforce"):
                assert_allclose(first, expected[key][str(k)], rtol=0, atol=reference["rtol"], err_msg=f"{name}, {k}")
            for norm, key in (("max", "knnie_revised_mi_linf"), ("euclidean", "knnie_revised_mi_l2")):
                if str(k) in expected[key]:
                    revised = ksg(inputs["x"], inputs["y"], int(k), "revised", norm).value
                    assert_allclose(revised, expected[key][str(k)], rtol=0, atol=reference["rtol"])
                    compared += 1
    assert compared == 36


def test_noam_is_the_core_s(oracle: Any) -> None:
    """The per-epoch schedule of the toy experiments needs no component of the plugin's own."""
    reference = oracle("mim_noam_lr")
    inputs = reference["inputs"]
    noam = registry().find("learning_rate", "noam")
    assert noam is not None
    steps = 78
    factor = noam(warmup_epochs=inputs["warmup_steps"]).build(
        BuildContext(DataSpec((2,), "real"), steps_per_epoch=steps, epochs=inputs["epochs"])
    )
    rates = [inputs["lr"] * factor(epoch * steps) for epoch in range(inputs["epochs"])]
    assert_allclose(rates, reference["expected"]["lr_per_epoch"], rtol=reference["rtol"])


def test_linear_gaussian_truth(oracle: Any, linear: Any, standard_nodes: Any) -> None:
    """Exact expectations by quadrature: where MIM's loss is the joint entropy, and by how much line 10 misses it."""
    reference = oracle("mim_linear_gaussian_truth")
    inputs, expected = reference["inputs"], reference["expected"]
    assert (linear.a, linear.s2) == (inputs["a"], inputs["s2"])
    model, (nodes, weights) = linear.model(), standard_nodes(2)
    z = nodes[:, :1]
    x = linear.a * z + math.sqrt(linear.s2) * nodes[:, 1:]
    log_q_z, log_p_x = model.infer(x).log_prob(z), model.generate(z).log_prob(x)
    log_p_z = model.p_z().log_prob(z)
    variance = torch.tensor([math.log(linear.x_variance)], dtype=torch.float64)
    log_q_x = DiagonalNormal(torch.zeros(1, dtype=torch.float64), variance).log_prob(x)

    def mean(t: Tensor) -> float:
        return (weights * t).sum().item()

    found = {
        "H_joint=L_MIM": mean(functional.mim_loss(log_q_z, log_q_x, log_p_x, log_p_z)),
        "H_x": -mean(log_q_x),
        "H_z": -mean(log_p_z),
        "MI": mean(log_p_x - log_q_x),
        "L_VAE(negative ELBO)=H_x": mean(log_q_z - log_p_z - log_p_x),
        "decode_half_with_alg2_line10 = -0.5E[log q(z|x)+2log p(x|z)+log p(z)]": mean(
            functional.mim_loss(log_q_z, log_p_x, log_p_x, log_p_z)
        ),
    }
    for name, value in found.items():
        assert_allclose(value, expected[name], rtol=1e-10, err_msg=name)
    joint = found["H_joint=L_MIM"]
    bias = list(found.values())[-1] - joint
    assert_allclose(bias, expected["note_decode_half_bias_vs_H_joint"], rtol=1e-10)
    assert_allclose(bias, -0.5 * found["MI"], rtol=1e-10)
    # Importance sampling with the exact posterior has no error, for encoded pairs and for codes drawn afresh.
    marginal = functional.marginal_log_density(log_p_x, log_p_z, log_q_z)
    assert torch.allclose(marginal, log_q_x)
    assert_allclose(mean(functional.mim_loss(log_q_z, marginal, log_p_x, log_p_z)), joint, rtol=1e-10)
    assert_allclose(mean(functional.cross_entropy_loss(log_q_z, log_q_x, log_p_x, log_p_z)), joint, rtol=1e-10)
