"""What the plugin measures, finds and shows of correlated codes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Normal
from uncollapse import Batch
from uncollapse.errors import ConfigError
from uncollapse.plugins import registry
from uncollapse_decorrelate.correlations import SECTION, correlation, measure, strongest
from uncollapse_diagnosis import Adapter, Settings, diagnose, prescribe


def codes(shared: float, count: int = 2000) -> torch.Tensor:
    torch.manual_seed(0)
    z = torch.randn(count, 3)
    z[:, 2] = shared * z[:, 0] + (1 - shared**2) ** 0.5 * z[:, 2]
    return z


def diagnosed(shared: float):
    adapter = Adapter(lambda x: Normal(x, 0.1), likelihood=lambda z: Normal(z, 0.1))
    return diagnose(adapter, codes(shared), settings=Settings(decoder_examples=50, refined_examples=10))


def test_correlations_are_those_of_numpy():
    x = codes(0.6)
    np.testing.assert_allclose(correlation(x.double()), np.corrcoef(x.double().numpy().T), atol=1e-10)
    i, j, value = strongest(correlation(x))[0]
    assert (i, j) == (0, 2)
    assert value == pytest.approx(0.6, abs=0.05)


def test_a_dimension_at_rest_is_correlated_with_nothing():
    x = codes(0.6).double()
    x[:, 1] = 3.0
    found = correlation(x)
    assert found[1].abs().max() == 0
    assert torch.isfinite(found).all()


def test_a_latent_of_one_dimension_has_no_correlation():
    with pytest.raises(ConfigError, match="two dimensions"):
        measure(None, SimpleNamespace(mean=torch.zeros(9, 1), count=9), None)


@pytest.mark.parametrize(("shared", "found"), [(0.95, True), (0.72, False), (0.3, False)])
def test_only_what_surely_shares_half_of_its_variance_is_found(shared, found):
    conditions = [finding.condition for finding in diagnosed(shared).findings]
    assert ("correlated dimensions" in conditions) == found


def test_its_own_remedy_is_prescribed():
    finding = next(f for f in diagnosed(0.95).findings if f.condition == "correlated dimensions")
    assert [p.name for p in prescribe(finding).ranked] == ["decorrelate.covariance"]
    assert 40 in {c.exit_code for c in registry().conditions()[0]}


def test_the_panel_is_a_table():
    split = SimpleNamespace(batches=lambda size: iter([Batch(codes(0.6, 40))]))
    model = torch.nn.Linear(1, 1)
    model.infer = lambda x, progress: Normal(x, torch.ones_like(x))
    built = SimpleNamespace(model=model, data=SimpleNamespace(test=split))
    html = SECTION.show(built, "test", 0)
    assert html.count("<tr>") == 4
    assert "over 40 examples" in html
