"""The comparison table: measured numbers as text, with their unit and their error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uncollapse.protocols import Estimate

from .records import ReportRun

__all__ = ["NOT_MEASURED", "Cell", "Row", "table"]

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Cell:
    """One number.

    Args:
        value: As text; a true minus sign.
        error: ``± 0.12``, or empty where there is no standard error to state.
        measured: False for what nobody measured.
    """

    value: str
    error: str = ""
    measured: bool = True


@dataclass(frozen=True)
class Row:
    """One quantity over all runs.

    Args:
        label: What it is.
        unit: Of every number in the row; empty for plain counts and words.
        meaning: What it says about collapse.
        cells: One per run.
        notes: What limits the numbers.
    """

    label: str
    unit: str
    meaning: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Quantity:
    name: str
    label: str
    unit: str
    meaning: str
    always: bool = False


_QUANTITIES = (
    _Quantity(
        "nll", "Negative log-likelihood", "nats", "Surprise per example, by importance sampling; lower is better.", True
    ),
    _Quantity("bits_per_dimension", "Bits per dimension", "bits/dim", "The same per value of x, in bits."),
    _Quantity("perplexity", "Perplexity", "perplexity", "exp of the nats per token of a text; lower is better."),
    _Quantity("perplexity_elbo", "Perplexity from the ELBO", "perplexity", "The same from the lower bound."),
    _Quantity("elbo", "ELBO", "nats", "Lower bound of the log-likelihood; higher is better."),
    _Quantity("rate", "Rate", "nats", "KL(q(z|x) ‖ p(z)): what the code costs. Zero when collapsed.", True),
    _Quantity(
        "rate_top", "Rate of the top level", "nats", "Of a hierarchy: KL(q(z2|x) ‖ p(z2)). Zero when it has collapsed."
    ),
    _Quantity("rate_bottom", "Rate of the bottom level", "nats", "Of a hierarchy: what z1 costs, given z2."),
    _Quantity("distortion", "Distortion", "nats", "−E log p(x|z): what the code leaves unexplained.", True),
    _Quantity(
        "mutual_information", "Mutual information", "nats", "What the code says about its input; 0 is collapse.", True
    ),
    _Quantity(
        "mutual_information_analytic",
        "Mutual information, analytic entropy",
        "nats",
        "The same, as DU-VAE's code has it.",
    ),
    _Quantity(
        "mutual_information_minibatch",
        "Mutual information, by minibatch",
        "nats",
        "Against the examples of a minibatch.",
    ),
    _Quantity("active_units", "Active units", "units", "Dimensions whose posterior mean moves with the input.", True),
    _Quantity("reconstruction_error", "Reconstruction error", "", "Distance of reconstructions from their inputs."),
    _Quantity(
        "mutual_posterior_divergence",
        "Mutual posterior divergence",
        "nats",
        "How far two inputs' posteriors lie apart.",
    ),
    _Quantity(
        "mutual_posterior_divergence_std",
        "Spread of the mutual posterior divergence",
        "nats",
        "Standard deviation over pairs of inputs.",
    ),
    _Quantity(
        "knn_accuracy",
        "k-NN accuracy",
        "accuracy",
        "Labels read off neighbouring codes; chance if collapsed.",
        True,
    ),
    _Quantity("logistic_accuracy", "Logistic-regression accuracy", "accuracy", "Labels read off the codes, linearly."),
    _Quantity("linear_svm_accuracy", "Linear SVM accuracy", "accuracy", "Labels read off the codes, linearly."),
    _Quantity("rbf_svm_accuracy", "RBF SVM accuracy", "accuracy", "Labels read off the codes, with curved borders."),
)
_KNOWN = {quantity.name: quantity for quantity in _QUANTITIES}
_IN_A_CHART = {"kl_per_dimension"}


def table(runs: Sequence[ReportRun]) -> list[Row]:
    """Return the table's rows: the set-up, then every quantity that some run measured or that the verdict needs."""
    rows = [
        Row("Seed", "", "Of every random draw of the run.", _plain(runs, lambda run: run.seed)),
        Row("Latent dimensions", "", "Numbers in one code.", _plain(runs, lambda run: run.latent_size)),
        Row("Measured on", "", "The split and how many of its examples.", _plain(runs, lambda run: run.evaluated_on)),
        Row("Checkpoint", "", "The weights that were measured.", _plain(runs, lambda run: run.measured_at)),
    ]
    measured = {name for run in runs for name in run.numbers} - _IN_A_CHART
    first = [q for q in _QUANTITIES if q.always or q.name in measured]
    others = [_unknown(name) for name in sorted(measured - _KNOWN.keys())]
    return rows + [_row(quantity, runs) for quantity in [*first, *others]]


def _plain(runs: Sequence[ReportRun], read: Callable[[ReportRun], object]) -> tuple[Cell, ...]:
    values = [read(run) for run in runs]
    return tuple(Cell(NOT_MEASURED, measured=False) if v in (None, "") else Cell(str(v)) for v in values)


def _unknown(name: str) -> _Quantity:
    """Make a readable label of a name such as ``kmeans_accuracy_k10`` or ``knn_accuracy_100``."""
    stem, _, labels = name.rpartition("_")
    if stem in _KNOWN and labels.isdigit():
        known = _KNOWN[stem]
        return _Quantity(name, f"{known.label}, {int(labels):,} labels", known.unit, known.meaning)
    return _Quantity(name, name.replace("_", " ").capitalize(), "", "")


def _row(quantity: _Quantity, runs: Sequence[ReportRun]) -> Row:
    estimates = [run.numbers.get(quantity.name) for run in runs]
    present = [e for e in estimates if e is not None]
    units = {e.unit for e in present}
    mixed = len(units) > 1
    unit = next(iter(units)) if len(units) == 1 else quantity.unit
    factor = 100.0 if unit == "accuracy" and not mixed else 1.0
    cells = tuple(_cell(e, factor, mixed) for e in estimates)
    shown_unit = "" if mixed else "%" if unit == "accuracy" else unit
    return Row(quantity.label, shown_unit, quantity.meaning, cells, _notes(runs, estimates))


def _notes(runs: Sequence[ReportRun], estimates: Sequence[Estimate | None]) -> tuple[str, ...]:
    """Return the notes of a row; one that not all runs share names its run."""
    named = [(run.name, e.note) for run, e in zip(runs, estimates, strict=True) if e is not None and e.note]
    if len(named) == sum(e is not None for e in estimates) and len({note for _, note in named}) == 1:
        return (named[0][1],)
    return tuple(f"{name}: {note}" for name, note in named)


def _cell(estimate: Estimate | None, factor: float, mixed: bool) -> Cell:
    if estimate is None:
        return Cell(NOT_MEASURED, measured=False)
    value, error = estimate.value * factor, estimate.standard_error
    decimals = _decimals(estimate.unit, None if error is None else error * factor)
    text = _number(value, decimals)
    stated = "" if error is None else f"± {_number(error * factor, decimals)}"
    return Cell(f"{text} {estimate.unit}" if mixed else text, stated)


def _decimals(unit: str, error: float | None) -> int:
    """Return the digits behind the point: two digits of the error where there is one, else what suits the unit."""
    if error is not None and math.isfinite(error) and error > 0:
        return max(0, min(6, 1 - math.floor(math.log10(error))))
    return {"units": 0, "accuracy": 1}.get(unit, 3)


def _number(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.{decimals}f}".replace("-", "−")
