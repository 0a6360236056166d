from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from uncollapse_report.charts import kl_chart, latent_charts, training_charts
from uncollapse_report.palette import COLORS, SYMBOLS, color
from uncollapse_report.records import Curve, LatentMap, ReportRun, Views

Make = Callable[..., ReportRun]


def test_all_runs_share_a_chart_and_lines_tell_splits_apart(image_run: Make) -> None:
    runs = [image_run("a", collapsed=True), image_run("b", collapsed=False)]
    charts = training_charts(runs)
    assert [chart.title for chart in charts] == ["Loss", "Rate", "Distortion"]
    lines = {line.name: line for line in charts[1].figure.data}
    assert set(lines) == {"a, train", "a, validation", "b, train", "b, validation"}
    assert (lines["a, train"].line.dash, lines["a, validation"].line.dash) == ("solid", "dash")
    assert lines["a, train"].line.color == lines["a, validation"].line.color == color(0)
    assert lines["b, train"].line.color == color(1)
    np.testing.assert_array_equal(lines["a, train"].y, runs[0].curves[1].values)
    assert "a, validation: from 2.35 to 0.01" in charts[1].alternative


def test_a_regularizer_gets_its_own_chart_after_the_known_ones() -> None:
    points = np.array([1.0, 2.0])
    run = ReportRun("r", curves=(Curve("x.term", "train", points, points), Curve("loss", "train", points, points)))
    assert [(c.title, c.key) for c in training_charts([run])] == [("Loss", "training-0"), ("x.term", "training-1")]


def test_kl_is_sorted_and_keeps_the_dimensions_names() -> None:
    kl = np.array([0.5, 2.0, np.nan, 1.0])
    chart = kl_chart([ReportRun("r", views=Views(kl_per_dimension=kl))])
    assert chart is not None
    bars = chart.figure.data[0]
    np.testing.assert_array_equal(bars.y, [2.0, 1.0, 0.5, np.nan])
    assert list(bars.customdata) == [1, 3, 0, 2]
    assert "3 of 4 dimensions above 0.01 nats, 3.50 nats in all" in chart.alternative


def test_the_noise_of_a_collapsed_model_is_not_blown_up(image_run: Make) -> None:
    run = image_run("a", collapsed=True)
    chart = kl_chart([run])
    assert chart is not None
    assert chart.figure.layout.yaxis.range[1] == pytest.approx(0.1)
    assert latent_charts([run])[0].figure.layout.xaxis.range == (-3.0, 3.0)


def test_latent_maps_have_one_scale_and_a_mark_for_each_label(image_run: Make) -> None:
    runs = [image_run("a", collapsed=True), image_run("b", collapsed=False)]
    charts = latent_charts(runs)
    ranges = {chart.figure.layout[axis].range for chart in charts for axis in ("xaxis", "yaxis")}
    assert len(ranges) == 1
    high = ranges.pop()[1]
    assert all(np.abs(run.views.latent_map.points).max() < high for run in runs if run.views.latent_map)
    traces = charts[0].figure.data
    assert [trace.name for trace in traces] == [str(digit) for digit in range(10)]
    assert sum(len(trace.x) for trace in traces) == 600
    assert len({(trace.marker.color, trace.marker.symbol) for trace in traces}) == 10
    assert charts[0].figure.layout.showlegend


def test_many_classes_get_no_legend_and_unlabelled_codes_no_classes() -> None:
    points = np.random.default_rng(0).normal(size=(100, 2))
    many = LatentMap(points, np.arange(100) // 2, ("x", "y"), 1.0, "")
    alone = LatentMap(points, None, ("x", "y"), 1.0, "")
    for latent_map, traces in ((many, 50), (alone, 1)):
        figure = latent_charts([ReportRun("r", views=Views(latent_map=latent_map))])[0].figure
        assert len(figure.data) == traces
        assert not figure.layout.showlegend


def test_runs_that_have_nothing_give_no_chart() -> None:
    run = ReportRun("r")
    assert (training_charts([run]), kl_chart([run]), latent_charts([run])) == ([], None, [])


def test_a_name_is_no_markup_in_a_chart(image_run: Make) -> None:
    run = replace(image_run("a", collapsed=True), name="<b>a</b> & b")
    assert training_charts([run])[0].figure.data[0].name == "&lt;b&gt;a&lt;/b&gt; &amp; b, train"


def _luminance(value: str) -> float:
    channels = [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("panel", ["#ffffff", "#191d24"])
@pytest.mark.parametrize("value", COLORS)
def test_every_colour_stands_out_on_both_panels(value: str, panel: str) -> None:
    light, dark = sorted((_luminance(value), _luminance(panel)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3.0


def test_colours_and_marks_differ() -> None:
    assert len(set(COLORS)) == len(COLORS) == len(set(SYMBOLS)) == len(SYMBOLS)
