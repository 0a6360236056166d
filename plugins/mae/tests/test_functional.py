"""The pure functions against the plain way, and where the plain way fails."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from uncollapse.errors import ShapeError
from uncollapse_mae import functional, softplus_pairs

SCALARS = ("mutual_posterior_divergence", "smooth_std", "diverse_paper", "diverse_released")
Moments = tuple[Tensor, Tensor]


def value_and_gradients(function: Any, mean: Tensor, logvar: Tensor) -> list[Tensor]:
    mean, logvar = mean.clone().requires_grad_(), logvar.clone().requires_grad_()
    value = function(mean, logvar)
    return [value.detach(), *torch.autograd.grad(value, (mean, logvar))]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small batches into many tiles, the last of each kind ragged."""
    monkeypatch.setattr(softplus_pairs, "_CPU_TILE_ELEMENTS", 64)
    monkeypatch.setattr(softplus_pairs, "_TILE_ROWS", 2)


# ------------------------------------------------------------------------------------------------ values and gradients


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("spread", [3.0, 1.0, 0.05])
def test_agrees_with_plain_way(name: str, spread: float, moments: Moments, brute_force: Any) -> None:
    mean, logvar = 4 + spread * moments[0], spread * moments[1] - 2
    found = value_and_gradients(getattr(functional, name), mean, logvar)
    expected = value_and_gradients(getattr(brute_force, name), mean, logvar)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", ["diverse_paper"])
def test_tiles_add_up(name: str, moments: Moments, brute_force: Any) -> None:
    found = value_and_gradients(getattr(functional, name), *moments)
    expected = value_and_gradients(getattr(brute_force, name), *moments)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-12)


def test_matrix_rows_are_the_first_argument(moments: Moments, brute_force: Any) -> None:
    found = functional.pairwise_kl_total(*moments)
    assert found.shape == (9, 9)
    torch.testing.assert_close(found, brute_force.totals(*moments))
    assert not torch.allclose(found, found.T)
    assert found.diagonal().count_nonzero() == 0


@pytest.mark.parametrize("name", SCALARS)
def test_gradcheck(name: str, moments: Moments) -> None:
    mean, logvar = (m[:4, :3].clone().requires_grad_() for m in moments)
    assert torch.autograd.gradcheck(getattr(functional, name), (mean, logvar))


@pytest.mark.usefixtures("small_tiles")
def test_gradcheck_over_tiles(moments: Moments) -> None:
    mean, logvar = (m[:7, :5].clone().requires_grad_() for m in moments)
    assert torch.autograd.gradcheck(functional.diverse_paper, (mean, logvar))


def test_gradcheck_of_the_matrix(moments: Moments) -> None:
    mean, logvar = (m[:4, :3].clone().requires_grad_() for m in moments)
    assert torch.autograd.gradcheck(functional.pairwise_kl_total, (mean, logvar))


@pytest.mark.parametrize("name", ["diverse_released", "smooth_std"])
def test_closed_forms_are_twice_differentiable(name: str, moments: Moments) -> None:
    mean, logvar = (m[:4, :3].clone().requires_grad_() for m in moments)
    assert torch.autograd.gradgradcheck(getattr(functional, name), (mean, logvar))


def test_paper_variant_refuses_to_be_differentiated_twice(moments: Moments) -> None:
    mean, logvar = (m.clone().requires_grad_() for m in moments)
    with pytest.raises(RuntimeError, match=r"variant 'paper'.* differentiable once"):
        torch.autograd.grad(functional.diverse_paper(mean, logvar), mean, create_graph=True)


def test_only_one_input_needs_a_gradient(moments: Moments) -> None:
    mean, logvar = moments[0].clone().requires_grad_(), moments[1]
    both = value_and_gradients(functional.diverse_paper, *moments)
    functional.diverse_paper(mean, logvar).backward()
    assert torch.equal(mean.grad, both[1])
    assert torch.equal(functional.diverse_paper(*moments), both[0])


@pytest.mark.parametrize("name", SCALARS)
def test_order_of_examples_does_not_matter(name: str, moments: Moments) -> None:
    order = torch.randperm(9)
    function = getattr(functional, name)
    here, there = (value_and_gradients(function, *m) for m in (moments, [m[order] for m in moments]))
    torch.testing.assert_close(there[0], here[0])
    for gradient in (1, 2):
        torch.testing.assert_close(there[gradient], here[gradient][order])


@pytest.mark.parametrize("name", SCALARS)
def test_any_event_shape(name: str, moments: Moments) -> None:
    mean, logvar = (m[:, :4].reshape(9, 2, 2, 1) for m in moments)
    function = getattr(functional, name)
    found = value_and_gradients(function, mean, logvar)
    torch.testing.assert_close(found[0], function(mean.flatten(1), logvar.flatten(1)))
    assert found[1].shape == mean.shape


@pytest.mark.parametrize("name", SCALARS)
def test_both_members_of_a_pair_move(name: str, moments: Moments) -> None:
    """Nothing is detached: the gradient of the first example counts the pairs in which it is second, too."""
    _, grad_mean, grad_logvar = value_and_gradients(getattr(functional, name), *moments)
    # A common shift of all means changes nothing, which only holds if both members move.
    assert grad_mean.sum(0).abs().max() < 1e-12 * (1 + grad_mean.abs().max())
    assert grad_logvar.abs().min() > 0


def test_close_pairs_are_still_pushed_by_the_paper_and_not_by_the_released_variant() -> None:
    """Two close posteriors and one far outlier: the mean divergence is large, the close pair's is not."""
    mean = torch.tensor([[0.0], [0.1], [60.0]], dtype=torch.float64)
    logvar = torch.zeros_like(mean)
    _, paper, _ = value_and_gradients(functional.diverse_paper, mean, logvar)
    _, released, _ = value_and_gradients(functional.diverse_released, mean, logvar)
    assert paper[0].item() > 1e-3
    assert abs(released[0].item()) < 1e-100


# ------------------------------------------------------------------------------------------------------------ collapse


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_collapse_has_finite_gradients(name: str, dtype: torch.dtype) -> None:
    mean, logvar = torch.full((6, 3), 0.3, dtype=dtype), torch.full((6, 3), -1.7, dtype=dtype)
    value, grad_mean, grad_logvar = value_and_gradients(getattr(functional, name), mean, logvar)
    expected = 3 * torch.tensor(2.0, dtype=dtype).log() if name.startswith("diverse") else value.new_zeros(())
    torch.testing.assert_close(value, expected)
    assert grad_mean.count_nonzero() == grad_logvar.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_symmetric_pair_has_finite_gradients(dtype: torch.dtype) -> None:
    """Two posteriors of equal variances: both divergences are equal, so the deviation is zero, and so is its slope."""
    mean = torch.tensor([[0.1, 2.3], [-0.7, 1.1]], dtype=dtype)
    value, *gradients = value_and_gradients(functional.smooth_std, mean, torch.full_like(mean, -0.9))
    assert value.item() == 0
    assert all(g.count_nonzero() == 0 for g in gradients)


def test_two_examples(brute_force: Any) -> None:
    mean, logvar = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for name in SCALARS:
        found = value_and_gradients(getattr(functional, name), mean, logvar)
        expected = value_and_gradients(getattr(brute_force, name), mean, logvar)
        for f, e in zip(found, expected, strict=True):
            torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("spread", [1e-3, 1e-5])
def test_float32_keeps_relative_accuracy_near_collapse(name: str, spread: float) -> None:
    mean = (1.7 + spread * torch.randn(64, 32)).double()
    logvar = (-2.3 + spread * torch.randn(64, 32)).double()
    function = getattr(functional, name)
    found = value_and_gradients(function, mean.float(), logvar.float())
    expected = value_and_gradients(function, mean, logvar)
    for f, e in zip(found, expected, strict=True):
        assert (f.double() - e).norm() <= 1e-5 * e.norm()


def test_plain_float32_is_noise_near_collapse(brute_force: Any) -> None:
    """Why the closed forms are centred: computed plainly, the deviation is off by far more than rounding."""
    mean, logvar = 1.7 + 1e-5 * torch.randn(64, 32), -2.3 + 1e-5 * torch.randn(64, 32)
    truth = functional.smooth_std(mean.double(), logvar.double())
    plain, ours = (
        abs(f(mean, logvar).double() - truth) / truth for f in (brute_force.smooth_std, functional.smooth_std)
    )
    assert plain > 1e-3 > 1e-5 > ours


@pytest.mark.parametrize("name", SCALARS)
def test_far_posteriors_stay_finite(name: str) -> None:
    mean, logvar = 100 * torch.randn(16, 4), torch.empty(16, 4).uniform_(-12, 8)
    for t in value_and_gradients(getattr(functional, name), mean, logvar):
        assert t.isfinite().all()


# --------------------------------------------------------------------------------------------------- types and memory


@pytest.mark.parametrize("name", SCALARS)
def test_half_precision_is_computed_in_float32(name: str, moments: Moments) -> None:
    mean, logvar = (m.bfloat16() for m in moments)
    function = getattr(functional, name)
    value, grad_mean, _ = value_and_gradients(function, mean, logvar)
    assert value.dtype == torch.float32
    assert grad_mean.dtype == torch.bfloat16
    torch.testing.assert_close(value, function(mean.float(), logvar.float()))


@pytest.mark.parametrize("name", SCALARS)
def test_autocast_changes_nothing(name: str, moments: Moments) -> None:
    mean, logvar = (m.float() for m in moments)
    function = getattr(functional, name)
    expected = value_and_gradients(function, mean, logvar)
    mean, logvar = mean.clone().requires_grad_(), logvar.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(mean, logvar)
    found = [value.detach(), *torch.autograd.grad(value, (mean, logvar))]
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-6, atol=1e-7)


class LargestTensor(TorchDispatchMode):
    """Records the elements of the largest tensor that any operation returns, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple | list) else (result,):
            if isinstance(t, Tensor):
                self.elements = max(self.elements, t.numel())
        return result


@pytest.mark.parametrize("name", SCALARS)
def test_no_tensor_of_all_pairs_and_dimensions(name: str) -> None:
    batch, size = 256, 128
    moments = torch.randn(batch, size), torch.randn(batch, size)
    with LargestTensor() as largest:
        value_and_gradients(getattr(functional, name), *moments)
    # Three buffers of the sweep are one allocation, whatever the batch.
    bound = 3 * softplus_pairs._CPU_TILE_ELEMENTS if name == "diverse_paper" else max(batch * batch, 3 * batch * size)
    assert largest.elements <= bound < batch * batch * size


def test_the_measure_of_memory_sees_the_plain_way(brute_force: Any) -> None:
    with LargestTensor() as largest:
        value_and_gradients(brute_force.diverse_paper, torch.randn(20, 6), torch.randn(20, 6))
    assert largest.elements == 20 * 20 * 6


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", [*SCALARS, "pairwise_kl_total", "pairwise_kl_per_dimension"])
def test_wrong_shapes(name: str) -> None:
    function = getattr(functional, name)
    with pytest.raises(ShapeError, match="the batch holds 1"):
        function(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ShapeError, match=r"found \(4, 3\) and \(4, 2\)"):
        function(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match=r"found \(4,\)"):
        function(torch.zeros(4), torch.zeros(4))
