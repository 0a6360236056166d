"""What can be wrong with a model besides a collapse, as the distribution contributes it.

Thresholds follow from the yardsticks of :mod:`uncollapse.findings`, or from what the measured quantity means;
``docs/diagnosis.md`` derives them. ``L`` is what counts as a code, ``N`` the number of examples:

==================== ================================================================================================
inference lagging    refinement gains more than the rate, and more than ``L``: ``q(z|x)`` is farther from the model's
                     posterior than from the prior
decoder ignores z    ``I(x; z) >= L``, but the decoder uses less than ``L`` (at most half of what the test can show)
over-informative     ``KL(q(z) || p(z)) > log N``: of ``N`` draws of the prior, none is expected where codes lie
==================== ================================================================================================

"Less" and "more" hold with two standard errors to spare.
"""

from __future__ import annotations

from uncollapse.findings import Condition, Evidence, Finding, Verdict

__all__ = ["CONDITIONS"]


def _lagging(evidence: Evidence) -> Finding | None:
    gap, rate = evidence.interval("inference_gap"), evidence.interval("rate")
    if gap is None or rate is None or gap.low <= max(rate.high, evidence.thresholds.collapsed):
        return None
    return Finding(
        "inference lagging",
        f"refining q(z|x) gains {gap.value:.2f} nats an example (at least {gap.low:.2f}), more than the rate of "
        f"{rate.value:.2f}: the inference network is farther from the model's posterior than from the prior",
    )


def _ignoring(evidence: Evidence) -> Finding | None:
    used, known = evidence.interval("used_information"), evidence.interval("mutual_information")
    least = evidence.thresholds.used
    if used is None or known is None or used.value >= least:
        return None
    if used.high >= least:
        return Finding(
            Verdict.NOT_ENOUGH,
            f"the decoder uses between {max(0.0, used.low):.2f} and {used.high:.2f} nats, around the {least:.2f} that "
            "decide whether it ignores z; measure more examples",
        )
    if known.low < evidence.thresholds.collapsed:
        return None
    other = evidence.interval("loss_other")
    lost = "" if other is None else f", and loses {other.value:.2f} nats with another example's code"
    return Finding(
        "decoder ignores z",
        f"z carries {known.value:.2f} nats of x, but the decoder uses {max(0.0, used.value):.2f} of them, less than "
        f"{least:.2f} with two standard errors to spare{lost}",
    )


def _over_informative(evidence: Evidence) -> Finding | None:
    mismatch, rate = evidence.interval("prior_mismatch"), evidence.interval("rate")
    if mismatch is None or rate is None or mismatch.low <= evidence.thresholds.mismatch:
        return None
    variance = evidence.interval("posterior_variance")
    narrow = "" if variance is None else f"; a posterior has {variance.value:.2g} of the prior's variance"
    return Finding(
        "over-informative",
        f"of {rate.value:.1f} nats of rate at least {mismatch.value:.1f} place the codes where the prior has none, "
        f"more than log N = {evidence.thresholds.mismatch:.2f}: no draw of the prior lands among them{narrow}",
    )


CONDITIONS = (
    Condition(
        name="inference lagging",
        exit_code=14,
        needs=("inference_gap", "rate"),
        examine=_lagging,
        aspect="lagging inference",
        of_codes=False,
        rank=0,
    ),
    Condition(
        name="decoder ignores z",
        exit_code=12,
        needs=("used_information",),
        examine=_ignoring,
        aspect="the decoder's use of z",
        rank=2,
    ),
    Condition(
        name="over-informative",
        exit_code=13,
        needs=("prior_mismatch", "rate"),
        examine=_over_informative,
        aspect="over-informative codes",
        rank=3,
    ),
)
"""Conditions that need more than the information in total."""
