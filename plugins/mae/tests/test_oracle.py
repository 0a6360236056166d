"""Against reference numbers made by running the released code, and by double loops over the paper's equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, standard_normal
from uncollapse.objectives import free_bits
from uncollapse_mae import MutualDivergence, functional

CASES = ("small", "collapsed", "big", "pair")


class Case:
    def __init__(self, reference: dict[str, Any], name: str) -> None:
        self.inputs, self.expected = reference["inputs"][name], reference["expected"][name]
        self.rtol: float = reference["rtol"]
        self.mean = torch.tensor(self.inputs["mu"], dtype=torch.float64, requires_grad=True)
        self.logvar = torch.tensor(self.inputs["logvar"], dtype=torch.float64, requires_grad=True)

    def agrees(self, found: Tensor, name: str) -> None:
        assert_allclose(found.detach().numpy(), self.expected[name], rtol=self.rtol, atol=1e-10, err_msg=name)

    def loss(self, eta: float, gamma: float, nats: float, variant: str) -> Tensor:
        q = DiagonalNormal(self.mean, self.logvar)
        distortion = torch.tensor(self.inputs["recon_error"]).mean()
        rate = free_bits(kl_per_dimension(q, standard_normal((self.mean.shape[1],))).sum(1), nats, "batch_total")
        return distortion + rate + MutualDivergence(eta, gamma, variant)(q).total


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, oracle: Any) -> Case:
    return Case(oracle("mae_pairwise"), request.param)


def test_values(case: Case) -> None:
    per_dimension = functional.pairwise_kl_per_dimension(case.mean, case.logvar)
    case.agrees(functional.pairwise_kl_total(case.mean, case.logvar), "kl_matrix_total")
    case.agrees(per_dimension, "code_mean_kl_per_dim")
    case.agrees(per_dimension, "paper_mean_kl_per_dim")
    mpd = functional.mutual_posterior_divergence(case.mean, case.logvar)
    case.agrees(mpd, "code_mpd")
    case.agrees(mpd, "paper_mpd_eq4")
    std = functional.smooth_std(case.mean, case.logvar)
    case.agrees(std, "code_std")
    case.agrees(std, "Lsmooth_unbiased_std_offdiag")
    case.agrees(functional.diverse_paper(case.mean, case.logvar), "paper_Ldiverse_eq8")
    case.agrees(functional.diverse_released(case.mean, case.logvar), "code_Ldiverse_bruteforce")


def test_released_losses_with_free_bits(case: Case) -> None:
    rows = case.expected["code_losses"]
    assert len(rows) == 21
    for row in rows:
        loss = case.loss(row["eta"], row["gamma"], row["free_bits"], "released")
        assert_allclose(loss.item(), row["loss"], rtol=case.rtol, atol=1e-10, err_msg=str(row))


def test_released_terms(case: Case) -> None:
    for row in case.expected["code_losses"]:
        terms = MutualDivergence(row["eta"], row["gamma"], "released")(DiagonalNormal(case.mean, case.logvar)).terms
        found = [row[w] * terms[t].item() if row[w] else 0.0 for w, t in (("eta", "diverse"), ("gamma", "smooth"))]
        assert_allclose(found, [row["loss_diverse_term"], row["loss_smooth_term"]], rtol=case.rtol, atol=1e-10)


def test_paper_losses(case: Case) -> None:
    rows = case.expected["paper_losses_no_freebits"]
    assert len(rows) == 7
    for row in rows:
        loss = case.loss(row["eta"], row["gamma"], 0.0, "paper")
        assert_allclose(loss.item(), row["loss"], rtol=case.rtol, atol=1e-10, err_msg=str(row))


def test_released_gradients(case: Case) -> None:
    grad_mean, grad_logvar = torch.autograd.grad(case.loss(1.0, 0.5, 0.0, "released"), (case.mean, case.logvar))
    case.agrees(grad_mean, "code_grad_mu_eta1_gamma0.5")
    case.agrees(grad_logvar, "code_grad_logvar_eta1_gamma0.5")


def test_rate_below_the_floor_gives_no_gradient(case: Case) -> None:
    """Free bits clamp the batch mean of the total: at 200 nats only the penalty moves the moments."""
    with_rate = torch.autograd.grad(case.loss(1.0, 0.5, 200.0, "paper"), case.mean)[0]
    penalty = MutualDivergence(1.0, 0.5)(DiagonalNormal(case.mean, case.logvar)).total
    assert torch.equal(with_rate, torch.autograd.grad(penalty, case.mean)[0])


def test_common_mistakes_give_other_numbers(case: Case) -> None:
    """Traps: the zero diagonal in mean or deviation, the population deviation, one Ldiverse for the other."""
    std = functional.smooth_std(case.mean, case.logvar).item()
    mpd = functional.mutual_posterior_divergence(case.mean, case.logvar).item()
    wrong = {
        "naive_std_including_diagonal_zeros": std,
        "Lsmooth_population_std_offdiag": std,
        "naive_mean_including_diagonal": mpd,
    }
    for name, found in wrong.items():
        assert not np.isclose(found, case.expected[name], rtol=1e-6), name
    paper = functional.diverse_paper(case.mean, case.logvar).item()
    assert paper > functional.diverse_released(case.mean, case.logvar).item()


def test_deviation_is_that_of_totals(case: Case, brute_force: Any) -> None:
    """Trap: the deviation of the divergences of single dimensions."""
    single = brute_force.off_diagonal(brute_force.all_divergences(case.mean, case.logvar))
    found = functional.smooth_std(case.mean, case.logvar).item()
    for wrong in (single.std(), single.std(0).sum(), single.std(0).mean()):
        assert not np.isclose(found, wrong.item(), rtol=1e-6)
