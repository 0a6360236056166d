"""Interactive charts: plotly figures, each with its text alternative."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from .palette import color, symbol
from .records import Curve, FloatArray, LatentMap, ReportRun

__all__ = ["Chart", "kl_chart", "latent_charts", "training_charts"]

_MOST_CLASSES_IN_A_LEGEND = 20
_TITLES = {"loss": "Loss", "rate": "Rate", "distortion": "Distortion"}


@dataclass(frozen=True)
class Chart:
    """A figure on the page.

    Args:
        key: Identifies the figure on the page; letters, digits and dashes.
        title: Heading above it.
        figure: Plotly's.
        alternative: What the figure shows, in words, for those who do not see it.
        caption: Below it; may be empty.
        color: Of the run that it belongs to; empty where it shows them all.
    """

    key: str
    title: str
    figure: go.Figure
    alternative: str
    caption: str = ""
    color: str = ""


def training_charts(runs: Sequence[ReportRun]) -> list[Chart]:
    """Return one chart for each quantity, all runs in it; solid lines are training, dashed ones validation."""
    quantities = list(dict.fromkeys(curve.quantity for run in runs for curve in run.curves))
    order = [*(q for q in _TITLES if q in quantities), *sorted(q for q in quantities if q not in _TITLES)]
    return [_training_chart(f"training-{index}", quantity, runs) for index, quantity in enumerate(order)]


def _training_chart(key: str, quantity: str, runs: Sequence[ReportRun]) -> Chart:
    figure = _figure("epoch", "nats per example")
    words = []
    for index, run in enumerate(runs):
        for curve in run.curves:
            if curve.quantity == quantity:
                figure.add_trace(_line(run.name, color(index), curve))
                words.append(f"{run.name}, {curve.split}: {_start_and_end(curve)}")
    title = _TITLES.get(quantity, quantity)
    return Chart(key, title, figure, f"{title} over epochs, nats per example. " + "; ".join(words) + ".")


def _line(name: str, line_color: str, curve: Curve) -> go.Scatter:
    validation = curve.split == "validation"
    few = len(curve.values) <= 40
    return go.Scatter(
        x=curve.epochs,
        y=curve.values,
        name=_plain(f"{name}, {curve.split}"),
        mode="lines+markers" if validation and few else "lines",
        line={"color": line_color, "width": 2, "dash": "dash" if validation else "solid"},
        marker={"size": 5, "color": line_color},
        opacity=1.0 if validation else 0.6,
        hovertemplate="%{y:.3f} nats at epoch %{x:.2f}<extra>%{fullData.name}</extra>",
    )


def _start_and_end(curve: Curve) -> str:
    return f"from {curve.values[0]:.2f} to {curve.values[-1]:.2f}"


def kl_chart(runs: Sequence[ReportRun]) -> Chart | None:
    """Return bars of the KL of every latent dimension, largest first; None where no run has it."""
    figure = _figure("dimension, by its KL", "nats")
    words, highest = [], 0.0
    for index, run in enumerate(runs):
        kl = run.views.kl_per_dimension
        if kl is None:
            continue
        order = np.argsort(-np.nan_to_num(kl, nan=-np.inf), kind="stable")
        figure.add_trace(
            go.Bar(
                x=np.arange(1, len(kl) + 1),
                y=kl[order],
                customdata=order,
                name=_plain(run.name),
                marker={"color": color(index), "line": {"width": 0}},
                hovertemplate="z%{customdata}: %{y:.4f} nats<extra>%{fullData.name}</extra>",
            )
        )
        highest = max(highest, float(np.nanmax(kl, initial=0.0)))
        words.append(f"{run.name}: {_kl_in_words(kl)}")
    if not words:
        return None
    figure.update_layout(barmode="group", bargap=0.15)
    # An axis fitted to a collapsed model would blow its noise up to bars of full height.
    figure.update_yaxes(range=[0, max(0.1, 1.05 * highest)])
    return Chart("kl", "KL of each latent dimension", figure, "KL per dimension, sorted. " + "; ".join(words) + ".")


def _kl_in_words(kl: FloatArray) -> str:
    return f"{int((kl > 0.01).sum())} of {len(kl)} dimensions above 0.01 nats, {np.nansum(kl):.2f} nats in all"


def latent_charts(runs: Sequence[ReportRun]) -> list[Chart]:
    """Return each run's map; all maps have one scale, at least three standard deviations of the prior wide."""
    maps = [(index, run, run.views.latent_map) for index, run in enumerate(runs)]
    shown = [(index, run, m) for index, run, m in maps if m is not None]
    if not shown:
        return []
    half = max(max(3 * m.prior_std, 1.05 * float(np.abs(m.points).max())) for _, _, m in shown)
    return [_latent_chart(index, run.name, m, half) for index, run, m in shown]


def _latent_chart(index: int, run: str, latent_map: LatentMap, half: float) -> Chart:
    figure = _figure(*latent_map.axes)
    points, labels = latent_map.points, latent_map.labels
    classes = np.unique(labels) if labels is not None else np.array([-1])
    for position, label in enumerate(classes.tolist()):
        inside = points if labels is None else points[labels == label]
        name = _label(latent_map, label)
        figure.add_trace(
            go.Scatter(
                x=inside[:, 0],
                y=inside[:, 1],
                mode="markers",
                name=name,
                marker={"color": color(position), "symbol": symbol(position), "size": 6, "opacity": 0.8},
                hovertemplate="(%{x:.2f}, %{y:.2f})<extra>%{fullData.name}</extra>",
            )
        )
    few = 1 < len(classes) <= _MOST_CLASSES_IN_A_LEGEND
    figure.update_layout(showlegend=few, legend={"title": {"text": "label "}, "itemsizing": "constant"})
    figure.update_xaxes(range=[-half, half], constrain="domain")
    figure.update_yaxes(range=[-half, half], scaleanchor="x", constrain="domain")
    spread = points.std(axis=0)
    coloured = "" if labels is None else f" in {len(classes)} classes"
    alternative = (
        f"Codes of {len(points)} examples{coloured} on a plane; standard deviations along the axes "
        f"{spread[0]:.2f} and {spread[1]:.2f}, the prior's {latent_map.prior_std:.2f}."
    )
    return Chart(f"latents-{index}", run, figure, alternative, latent_map.method, color(index))


def _label(latent_map: LatentMap, label: int) -> str:
    if latent_map.labels is None:
        return "example"
    return _plain(latent_map.names[label]) if 0 <= label < len(latent_map.names) else str(label)


def _figure(x_title: str, y_title: str) -> go.Figure:
    """Return an empty figure; the page's script gives it the colours of the reader's scheme."""
    return go.Figure(
        layout={
            "template": None,
            "autosize": True,
            "showlegend": False,
            "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {"title": {"text": x_title}, "zeroline": False},
            "yaxis": {"title": {"text": y_title}, "zeroline": False},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "hoverlabel": {"namelength": -1},
        }
    )


def _plain(name: str) -> str:
    """Keep plotly from reading a name as markup."""
    return html.escape(name, quote=False)
