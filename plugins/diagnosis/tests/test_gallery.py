"""Every constructed model is classified as it was built, over three seeds; the documentation has the table."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
from gallery import CASES, SEEDS, VERDICTS, Case, confusion, examine
from uncollapse.findings import Evidence, conclude
from uncollapse.plugins import registry
from uncollapse_diagnosis import Diagnosis

PAGE = Path(__file__).resolve().parents[3] / "docs" / "diagnosis.md"


@cache
def diagnosed(case: Case, seed: int) -> Diagnosis:
    return examine(case, seed)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_is_classified_as_built(case: Case) -> None:
    for seed in SEEDS:
        found = diagnosed(case, seed)
        assert found.verdict == case.condition, f"seed {seed}: {found.sentence}"
        if case.condition == "partly collapsed" and case.units:
            assert set(case.units) <= set(found.findings[0].units)
        if case.condition == "partly collapsed" and not case.units:
            assert found.findings[0].units == ()


def test_the_gallery_has_several_of_each_and_every_kind_of_data() -> None:
    built = Counter(case.condition for case in CASES)
    assert len(CASES) >= 25
    assert set(built) == set(VERDICTS)
    assert min(built.values()) >= 4
    for kind in ("vectors", "images", "spatial", "texts"):
        assert {c.condition for c in CASES if c.name.startswith(kind)} == set(VERDICTS)


def test_the_page_has_the_table() -> None:
    found = Counter((case.condition, diagnosed(case, seed).verdict) for case in CASES for seed in SEEDS)
    assert confusion(found) in PAGE.read_text()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_an_evaluation_finds_a_diagnosis_finds_too(case: Case, seed: int) -> None:
    """One judge: from the numbers of an evaluation alone, and from all of a diagnosis."""
    found = diagnosed(case, seed)
    estimates = {name: asdict(found.measurements[name]) for name in ("mutual_information", "rate")}
    conditions, _ = registry().conditions()
    told = conclude(Evidence.from_results({"estimates": estimates, "classes": case.classes}), conditions)
    everything = {finding.condition for finding in found.findings}
    assert {finding.condition for finding in told} - {"not collapsed"} <= everything
    # Nothing is called healthy that was not examined, and what a diagnosis finds healthy an evaluation does not fault.
    assert all(finding.condition != "healthy" for finding in told)
    if everything == {"healthy"}:
        (open_,) = told
        assert open_.condition == "not collapsed"
        for aspect in ("single units", "the decoder's use of z", "over-informative codes", "lagging inference"):
            assert aspect in open_.evidence
        assert open_.evidence.endswith("(uncollapse diagnose tells)")
    # With every number of the diagnosis, an evaluation would say what the diagnosis says.
    again = {name: asdict(estimate) for name, estimate in found.measurements.items()}
    whole = Evidence.from_results({"estimates": again, "classes": case.classes, "examples": found.examples})
    caps = {"used_information": math.log(16)}
    if found.examples > 16:
        same = conclude(Evidence(whole.measured, whole.examples, case.classes, caps, found.skipped), conditions)
        assert same == found.findings


def test_exactly_the_dead_dimensions_are_named() -> None:
    case = next(c for c in CASES if c.name == "vectors, 2 of 8 dimensions used")
    assert [diagnosed(case, seed).findings[0].units for seed in SEEDS] == [case.units] * 3
