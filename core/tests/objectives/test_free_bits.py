"""Free bits, four ways, against reference numbers and by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from uncollapse.distributions import DiagonalNormal, kl_per_dimension
from uncollapse.objectives import FREE_BITS_VARIANTS, free_bits

ORACLE_NAMES = {
    "batch_total": "total_of_batch_mean",
    "batch_per_dimension": "per_dim_of_batch_mean",
    "example_total": "per_sample_total",
    "example_per_dimension": "per_sample_per_dim",
}


def test_reference_numbers_and_gradients(oracle: Callable[[str], dict[str, Any]]) -> None:
    reference = oracle("free_bits")
    compared = 0
    for case, inputs in reference["inputs"].items():
        for level, variants in reference["expected"][case]["variants"].items():
            floor = float(re.fullmatch(r"lambda=([\d.]+)", level)[1])  # type: ignore[index]
            for variant, wanted in ORACLE_NAMES.items():
                (name,) = [n for n in variants if n.partition(" ")[0] == wanted]
                mean = torch.tensor(inputs["mu"], dtype=torch.float64, requires_grad=True)
                logvar = torch.tensor(inputs["logvar"], dtype=torch.float64)
                dimensions = mean.shape[1]
                p = DiagonalNormal(torch.zeros(dimensions).double(), torch.zeros(dimensions).double())
                rates = kl_per_dimension(DiagonalNormal(mean, logvar), p)
                # The reference states one level per dimension; totals have it once for each of them.
                total = variant.endswith("total")
                value = free_bits(rates.sum(1) if total else rates, floor * (dimensions if total else 1), variant)
                (gradient,) = torch.autograd.grad(value, [mean])
                where = f"{case} {level} {name}"
                rtol = reference["rtol"]
                assert_allclose(float(value.detach()), variants[name]["value"], rtol=rtol, atol=1e-10, err_msg=where)
                expected = np.asarray(variants[name]["grad_mu"], dtype=np.float64)
                assert_allclose(gradient.numpy(), expected, rtol=rtol, atol=1e-10, err_msg=where)
                compared += 1
    assert compared == 2 * 3 * len(FREE_BITS_VARIANTS)


RATES = torch.tensor([[0.0, 2.0], [1.0, 5.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("batch_total", max((2 + 6) / 2, 4.5)),
        ("example_total", (max(2, 4.5) + max(6, 4.5)) / 2),
        ("batch_per_dimension", max(0.5, 4.5) + max(3.5, 4.5)),
        ("example_per_dimension", (4.5 + 4.5 + 4.5 + 5) / 2),
    ],
)
def test_by_hand(variant: Any, expected: float) -> None:
    rate = RATES.sum(1) if variant.endswith("total") else RATES
    assert float(free_bits(rate, 4.5, variant)) == pytest.approx(expected)


@pytest.mark.parametrize("variant", FREE_BITS_VARIANTS)
def test_zero_is_no_floor(variant: Any) -> None:
    rate = RATES.sum(1) if variant.endswith("total") else RATES
    assert float(free_bits(rate, 0.0, variant)) == pytest.approx(4.0)


@pytest.mark.parametrize("variant", FREE_BITS_VARIANTS)
def test_no_gradient_below_the_floor(variant: Any) -> None:
    rate = (RATES.sum(1) if variant.endswith("total") else RATES).clone().requires_grad_()
    value = free_bits(rate, 100.0, variant)
    assert float(value.detach()) == pytest.approx(100.0 if variant.endswith("total") else 200.0)
    (gradient,) = torch.autograd.grad(value, [rate])
    assert not bool(gradient.any())


@pytest.mark.parametrize("variant", ["batch_per_dimension", "example_per_dimension"])
def test_spatial_latents_are_dimensions_like_others(variant: Any) -> None:
    rates = torch.rand(4, 2, 3, 3, dtype=torch.float64)
    assert_allclose(free_bits(rates, 0.5, variant), free_bits(rates.flatten(1), 0.5, variant))


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of batch_total, .*; found 'totals'"):
        free_bits(RATES, 1.0, "totals")  # type: ignore[arg-type]
