from dataclasses import replace

import pytest
from uncollapse.protocols import Estimate
from uncollapse_report.numbers import NOT_MEASURED, Row, table
from uncollapse_report.records import ReportRun


def rows(*numbers: dict[str, Estimate]) -> dict[str, Row]:
    runs = [ReportRun(name=f"run {i}", seed=i, numbers=n) for i, n in enumerate(numbers)]
    return {row.label: row for row in table(runs)}


def test_setup_comes_first_and_what_is_unknown_says_so() -> None:
    labels = list(rows({}))
    assert labels[:3] == ["Seed", "Latent dimensions", "Measured on"]
    assert rows({})["Seed"].cells[0].value == "0"
    assert rows({})["Latent dimensions"].cells[0].value == NOT_MEASURED


def test_quantities_of_the_verdict_are_always_there() -> None:
    found = rows({})
    for label in (
        "Negative log-likelihood",
        "Rate",
        "Distortion",
        "Mutual information",
        "Active units",
        "k-NN accuracy",
    ):
        assert found[label].cells[0].value == NOT_MEASURED
        assert not found[label].cells[0].measured
    assert "ELBO" not in found


@pytest.mark.parametrize(
    ("estimate", "value", "error"),
    [
        (Estimate(26.3112, "nats", 0.1749), "26.31", "± 0.17"),
        (Estimate(1234.5678, "nats", 12.3), "1,235", "± 12"),
        (Estimate(-0.00041, "nats", 0.0012), "−0.0004", "± 0.0012"),
        (Estimate(0.5, "nats"), "0.500", ""),
        (Estimate(13.0, "units"), "13", ""),
        (Estimate(2.0, "nats"), "2.000", ""),
        (Estimate(2.0, "nats", 0.0), "2.000", "± 0.000"),
        (Estimate(float("nan"), "nats"), "not finite", ""),
        (Estimate(5.0, "nats", float("nan")), "5.000", "± not finite"),
    ],
)
def test_a_number_has_as_many_digits_as_its_error_allows(estimate: Estimate, value: str, error: str) -> None:
    cell = rows({"rate": estimate})["Rate"].cells[0]
    assert (cell.value, cell.error) == (value, error)


def test_accuracies_are_shown_in_percent() -> None:
    row = rows({"knn_accuracy": Estimate(0.9623, "accuracy", 0.0061)})["k-NN accuracy"]
    assert (row.unit, row.cells[0].value, row.cells[0].error) == ("%", "96.23", "± 0.61")


def test_names_that_nobody_foresaw_become_readable() -> None:
    found = rows({"knn_accuracy_1000": Estimate(0.5, "accuracy"), "kmeans_accuracy_k10": Estimate(0.5, "accuracy")})
    assert found["k-NN accuracy, 1,000 labels"].unit == "%"
    assert found["Kmeans accuracy k10"].cells[0].value == "50.0"


def test_a_run_without_a_number_says_so_beside_one_that_has_it() -> None:
    row = rows({"elbo": Estimate(-90.0, "nats", 1.0)}, {})["ELBO"]
    assert [cell.value for cell in row.cells] == ["−90.0", NOT_MEASURED]


def test_shared_notes_are_said_once_and_others_name_their_run() -> None:
    one, other = Estimate(1.0, "nats", note="K = 500"), Estimate(1.0, "nats", note="K = 50")
    assert rows({"nll": one}, {"nll": one})["Negative log-likelihood"].notes == ("K = 500",)
    assert rows({"nll": one}, {"nll": other})["Negative log-likelihood"].notes == ("run 0: K = 500", "run 1: K = 50")
    assert rows({"nll": one}, {"nll": replace(one, note="")})["Negative log-likelihood"].notes == ("run 0: K = 500",)


def test_different_units_stand_with_their_numbers() -> None:
    row = rows({"rate": Estimate(1.5, "nats", 0.1)}, {"rate": Estimate(2.25, "bits/dim", 0.1)})["Rate"]
    assert row.unit == ""
    assert [cell.value for cell in row.cells] == ["1.50 nats", "2.25 bits/dim"]


def test_what_a_chart_shows_is_not_repeated() -> None:
    assert "Kl per dimension" not in rows({"kl_per_dimension": Estimate(1.0, "nats")})
