import subprocess
import sys

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Normal
from uncollapse.distributions import standard_normal
from uncollapse_latents.flows import (
    AutoregressiveAffine,
    AutoregressiveAffineTransform,
    LazyComposedTransform,
    NormalizingFlow,
)


def randomized(features, **fields):
    flow = AutoregressiveAffine(features, 8 * features, **fields).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return flow


@pytest.mark.parametrize("weight_norm", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_inverts_and_log_determinant_is_autograds(features, reverse, weight_norm):
    transform = randomized(features, reverse=reverse, weight_norm=weight_norm)()
    z = torch.randn(6, features, dtype=torch.float64)
    eps, ladj = transform.call_and_ladj(z)
    assert torch.equal(transform(z), eps)
    assert torch.equal(transform.log_abs_det_jacobian(z, eps), ladj)
    torch.testing.assert_close(transform.inv(eps), z, rtol=1e-8, atol=1e-9)
    for one, expected in zip(z, ladj, strict=True):
        torch.testing.assert_close(torch.linalg.slogdet(jacobian(transform, one)).logabsdet, expected)


def test_constant_moments_give_a_gaussian_in_closed_form():
    flow = AutoregressiveAffine(1, 1).double()
    with torch.no_grad():
        flow.mean.constant.fill_(0.7)
        flow.logvar.constant.fill_(-1.2)
    p = NormalizingFlow(flow(), standard_normal((1,)))
    # eps = 0.7 + z exp(-0.6), so z ~ N(-0.7 exp(0.6), exp(0.6)²).
    scale = torch.tensor(0.6, dtype=torch.float64).exp()
    z = torch.linspace(-3, 3, 7, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(p.log_prob(z), Normal(-0.7 * scale, scale).log_prob(z).squeeze(1))


def test_gradients_go_through_the_inverse():
    flow = randomized(3)
    eps = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: flow().inv(e), (eps,))
    flow().inv(eps).square().sum().backward()
    for name, p in flow.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_inverse_survives_features_that_would_overflow_before_their_turn():
    # With the first feature still at 0 the second's log-scale is -1000, whose inverse overflows; at its true value, 1,
    # everything is tame.
    def moments(z):
        shift = torch.zeros_like(z)
        scale = torch.stack([z[..., 0] * 0, 1000 * (z[..., 0] - 1), 0 * (z[..., 0] + z[..., 1])], -1)
        return shift, scale

    z = AutoregressiveAffineTransform(moments, range(3)).inv(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(z, torch.tensor([1.0, 2.0, 3.0]))


def test_composes_with_zuko():
    transform = LazyComposedTransform(randomized(4), randomized(4, reverse=True))()
    z = torch.randn(2, 3, 4, dtype=torch.float64)
    eps, ladj = transform.call_and_ladj(z)
    assert ladj.shape == (2, 3)
    torch.testing.assert_close(transform.inv(eps), z)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian(transform, z[0, 0])).logabsdet, ladj[0, 0])


@pytest.mark.parametrize("wanted", [True, False])
def test_importing_leaves_the_validation_of_other_distributions_as_it_was(wanted):
    code = (
        "from torch.distributions import Distribution, Normal\n"
        f"Distribution.set_default_validate_args({wanted})\n"
        "import uncollapse_latents.flows, sys\n"
        "assert 'zuko' in sys.modules\n"
        "try:\n    Normal(0.0, -1.0)\n    print('accepted')\nexcept ValueError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("refused" if wanted else "accepted")
