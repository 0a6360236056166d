"""The diagnosis of a model: measure, conclude, and keep what was seen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from uncollapse.findings import Condition, Evidence, Finding, Thresholds, conclude
from uncollapse.model import LatentVariableModel
from uncollapse.passes import measuring
from uncollapse.plugins import Measurement, registry
from uncollapse.protocols import Estimate
from uncollapse.randomness import separate_stream

from .codes import read_codes
from .history import History, read_history
from .information import Units, units_of
from .measurements import OWN, contributed, measure
from .settings import Settings
from .subject import ModelSubject, Subject, batches_of

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """What was measured and concluded.

    Args:
        findings: The gravest first; its condition is the verdict.
        measurements: Estimates by name, with standard errors.
        units: What each unit of the latent does.
        thresholds: Nats that decided.
        examples: Examples whose posteriors were read.
        latent_shape: ``D``.
        history: What the training record says of the rate; None without one.
        skipped: What was not measured, and why.
    """

    findings: tuple[Finding, ...]
    measurements: Mapping[str, Estimate]
    units: Units | None
    thresholds: Thresholds
    examples: int
    latent_shape: tuple[int, ...]
    history: History | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The condition that the model is in."""
        return self.findings[0].condition

    @property
    def sentence(self) -> str:
        """The verdict with its evidence."""
        return f"{self.verdict}: {self.findings[0].evidence}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold; a number that is not finite becomes None."""
        plain: dict[str, Any] = {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "examples": self.examples,
            "latent_shape": list(self.latent_shape),
            "thresholds": self.thresholds._asdict(),
            "measurements": {name: dataclasses.asdict(e) for name, e in self.measurements.items()},
            "units": None if self.units is None else dataclasses.asdict(self.units),
            "history": None if self.history is None else dataclasses.asdict(self.history),
            "skipped": dict(self.skipped),
        }
        if self.history is not None:
            plain["history"]["sentence"] = self.history.sentence
        return _finite(plain)  # type: ignore[no-any-return]


def diagnose(
    model: LatentVariableModel | Subject,
    data: Any,
    *,
    classes: int | None = None,
    history: Iterable[Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
    measurements: Iterable[Measurement] | None = None,
    conditions: Iterable[Condition] | None = None,
) -> Diagnosis:
    """Measure a model on data and conclude what condition it is in.

    The model is in evaluation mode meanwhile, its own mode comes back afterwards, and the global random state is left
    as it was; the same arguments give the same numbers.

    Args:
        model: The project's own model, or an :class:`~uncollapse_diagnosis.Adapter` of anybody's.
        data: A tensor ``[N, *X]``, a ``DataLoader``, or what else :func:`~uncollapse_diagnosis.batches_of` takes. The
            decoder is tried on the first examples, so a loader should shuffle.
        classes: Number of label classes, which makes ``log C`` the yardstick; None without labels.
        history: Training record, rows with ``step``, ``rate`` and weights; see
            :func:`~uncollapse_diagnosis.read_history`.
        settings: How much is measured.
        measurements: What is measured besides the diagnosis' own; by default what installed plugins contribute.
        conditions: What is looked for; by default what installed plugins contribute.

    Raises:
        DataError: There are no data, or the likelihood does not go with them.
        ShapeError: What the model returns does not fit.
    """
    settings = settings or Settings()
    subject = ModelSubject(model) if isinstance(model, LatentVariableModel) else model
    broken: dict[str, str] = {}
    if measurements is None:
        measurements, unavailable = contributed()
        broken |= unavailable
    if conditions is None:
        conditions, unavailable = registry().conditions()
        broken |= unavailable
    with separate_stream(settings.seed, subject.device), measuring(subject.module):
        codes = read_codes(subject, batches_of(data, settings.batch_size), settings)
        measured, skipped = measure([*OWN, *measurements], subject, codes, settings)
        units = units_of(codes) if codes.count > 1 else None
    candidates = min(settings.replacements, sum(len(k.batch) for k in codes.kept) - 1) + 1
    evidence = Evidence(
        measured,
        codes.count,
        classes,
        caps={"used_information": math.log(max(1, candidates))},
        skipped=skipped,
    )
    return Diagnosis(
        findings=conclude(evidence, conditions),
        measurements=measured,
        units=units,
        thresholds=evidence.thresholds,
        examples=codes.count,
        latent_shape=tuple(codes.shape),
        history=None if history is None else read_history(history, evidence.thresholds.collapsed),
        skipped={**skipped, **{f"what the plugin {name!r} contributes": why for name, why in broken.items()}},
    )


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
