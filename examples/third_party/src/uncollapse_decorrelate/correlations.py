"""How much the dimensions of the codes tell of one another: a measurement, a condition, and a section of the report."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import torch
from torch import Tensor
from uncollapse.distributions import gaussian_base
from uncollapse.errors import ConfigError
from uncollapse.findings import Condition, Evidence, Finding
from uncollapse.passes import AT_END, device_of
from uncollapse.plugins import Measurement, ReportSection
from uncollapse.protocols import Estimate

__all__ = ["CORRELATED", "CORRELATIONS", "SECTION", "correlation", "strongest"]

SHARED = math.sqrt(0.5)
"""Above this correlation, two dimensions share more than half of their variance."""

MOST_SHOWN = 16


def correlation(means: Tensor) -> Tensor:
    """Return the correlation matrix ``[K, K]`` of posterior means ``[N, K]``; that of a dimension at rest is 0."""
    centred = means - means.mean(0)
    deviations = centred.square().mean(0).sqrt()
    moving = deviations > 1e-6 * deviations.max()
    scaled = torch.where(moving, centred / deviations.where(moving, 1.0), 0.0)
    return scaled.T @ scaled / len(means)


def strongest(found: Tensor) -> list[tuple[int, int, float]]:
    """Return pairs of dimensions and their correlation, the strongest first, of a matrix ``[K, K]``."""
    rows, columns = torch.triu_indices(*found.shape, offset=1).tolist()
    pairs = [(i, j, found[i, j].item()) for i, j in zip(rows, columns, strict=True)]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def measure(subject: Any, codes: Any, settings: Any) -> dict[str, Estimate]:
    """Return ``largest_correlation``, with the error of a correlation of Gaussian variables.

    Raises:
        ConfigError: The latent has one dimension, or there are too few examples.
    """
    if codes.mean.shape[1] < 2 or codes.count < 3:
        raise ConfigError("a correlation needs two dimensions and three examples")
    i, j, value = strongest(correlation(codes.mean))[0]
    error = (1 - value**2) / math.sqrt(codes.count - 1)
    return {"largest_correlation": Estimate(abs(value), "", error, codes.count, note=f"of dimensions {i} and {j}")}


def examine(evidence: Evidence) -> Finding | None:
    """Find two dimensions that share more than half of their variance, with two standard errors to spare."""
    found = evidence.interval("largest_correlation")
    if found is None or found.low <= SHARED:
        return None
    pair = evidence.measured["largest_correlation"].note
    return Finding("correlated dimensions", f"the posterior means {pair} have a correlation of {found.value:.2f}")


def panel(built: Any, split: str, seed: int) -> str | None:
    """Return the correlations of the first dimensions as a table; None where the posterior is not Gaussian."""
    batch = next(iter(getattr(built.data, split).batches(1000))).to(device_of(built.model))
    base = gaussian_base(built.model.infer(batch.x, AT_END))
    if base is None:
        return None
    found = correlation(base.mean.flatten(1).double().cpu())[:MOST_SHOWN, :MOST_SHOWN]
    heads = "".join(f'<th scope="col">z{i}</th>' for i in range(len(found)))
    rows = "".join(
        f'<tr><th scope="row">z{i}</th>' + "".join(f"<td>{value:+.2f}</td>" for value in row) + "</tr>"
        for i, row in enumerate(found.tolist())
    )
    caption = escape(f"Correlations of posterior means over {len(batch)} examples")
    return f"<table><caption>{caption}</caption><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"


CORRELATIONS = Measurement("correlations", measure, {"largest_correlation": "of two dimensions' means"})

CORRELATED = Condition(
    name="correlated dimensions",
    exit_code=40,
    needs=("largest_correlation",),
    examine=examine,
    aspect="correlated dimensions",
    rank=6,
)

SECTION = ReportSection(
    name="correlations",
    title="Correlations of the code",
    about="How much two dimensions of the code tell of each other. A penalty on their covariance drives them to zero.",
    show=panel,
    style="#correlations table { font-variant-numeric: tabular-nums; font-size: .8125rem; }\n",
)
