"""Every constructed model is classified as it was built, over three seeds; the documentation has the table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
from gallery import CASES, SEEDS, Case, confusion, examine
from uncollapse.plugins import CONDITIONS
from uncollapse.verdict import NOT_EXAMINED, verdict
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
    assert set(built) == set(CONDITIONS)
    assert min(built.values()) >= 4
    for kind in ("vectors", "images", "spatial", "texts"):
        assert {c.condition for c in CASES if c.name.startswith(kind)} == set(CONDITIONS)


def test_the_page_has_the_table() -> None:
    found = Counter((case.condition, diagnosed(case, seed).verdict) for case in CASES for seed in SEEDS)
    assert confusion(found) in PAGE.read_text()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_an_evaluation_finds_a_diagnosis_finds_too(case: Case, seed: int) -> None:
    """Both speak of the information in total; an evaluation calls nothing healthy, and leaves the rest open."""
    found = diagnosed(case, seed)
    information, rate = (asdict(found.measurements[name]) for name in ("mutual_information", "rate"))
    estimates = {"mutual_information_b2": information, "rate": rate}
    told = verdict({"estimates": estimates, "classes": case.classes})
    conditions = {finding.condition for finding in found.findings}
    assert told.label != "healthy"
    assert (told.label == "collapsed") == ("collapsed" in conditions)
    assert (told.label == "cannot tell") <= ("not enough data" in conditions)
    if told.label == "partly collapsed":
        assert conditions & {"partly collapsed", "not enough data"}
    if conditions == {"healthy"}:
        assert told.label == "not collapsed"
        assert told.sentence.endswith(NOT_EXAMINED)


def test_exactly_the_dead_dimensions_are_named() -> None:
    case = next(c for c in CASES if c.name == "vectors, 2 of 8 dimensions used")
    assert [diagnosed(case, seed).findings[0].units for seed in SEEDS] == [case.units] * 3
