"""Second derivatives of dropped variances, which SA-VAE's steps take."""

from __future__ import annotations

import torch
from uncollapse_duvae.functional import drop_variance


def test_second_derivatives_of_dropped_variances_are_numbers() -> None:
    logvar = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    kept = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64).expand(6, 3)
    assert torch.autograd.gradgradcheck(lambda t: drop_variance(t, kept, 0.8), logvar)
    assert torch.autograd.gradcheck(lambda t: drop_variance(t, kept, 0.8), logvar)
