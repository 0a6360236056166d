"""The page: records, charts and pictures in one HTML file that asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from uncollapse.findings import Verdict, tone
from uncollapse_images.pictures import PixelArray, data_uri, strip

from .charts import Chart, kl_chart, latent_charts, training_charts
from .numbers import table
from .palette import color
from .records import Pictures, ReportRun, Section

__all__ = ["render"]

_PRIOR_COLUMNS = 8


@dataclass(frozen=True)
class Picture:
    """A strip of images with its label and its text alternative."""

    label: str
    uri: str
    width: int
    height: int
    alternative: str


@dataclass(frozen=True)
class Gallery:
    """The pictures of one run."""

    name: str
    color: str
    reconstructions: tuple[Picture, ...]
    prior: Picture
    traversals: tuple[Picture, ...]
    positions: tuple[str, ...]
    show_means: bool


def render(runs: Sequence[ReportRun], left_out: Mapping[str, str] | None = None) -> str:
    """Return the page for one run or several; the same records give the same bytes.

    Args:
        runs: What is shown.
        left_out: Why sections of a plugin are left out, by the plugin's name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("uncollapse_report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    training, kl, latents = training_charts(runs), kl_chart(runs), latent_charts(runs)
    charts = [*training, *([kl] if kl else []), *latents]
    source = environment.loader.get_source  # type: ignore[union-attr]
    return environment.get_template("page.html.j2").render(
        runs=[{"run": run, "color": color(i), "card": _card(run)} for i, run in enumerate(runs)],
        title=", ".join(run.name for run in runs) if len(runs) <= 3 else f"{len(runs)} runs",
        diagnoses=[_diagnosis(run, i) for i, run in enumerate(runs) if run.diagnosis is not None],
        rows=table(runs),
        training=training,
        kl=kl,
        latents=latents,
        galleries=[_gallery(run, run.views.pictures, i) for i, run in enumerate(runs) if run.views.pictures],
        sections=_sections(runs),
        left_out_sections=left_out or {},
        omitted={section: _omitted(runs, section) for section in ("training", "kl", "pictures", "latents")},
        environments=[yaml.safe_dump(dict(run.environment), sort_keys=False, allow_unicode=True) for run in runs],
        figures=Markup(_script_json([_figure(chart) for chart in charts])),
        plotly=Markup(get_plotlyjs()),
        style=Markup(source(environment, "page.css")[0]),
        script=Markup(source(environment, "page.js")[0]),
    )


def _card(run: ReportRun) -> dict[str, Any]:
    """Return what the card of a run says: the verdict, which the badge shows, why, and further findings."""
    if not run.findings:
        return {"tone": "unknown", "label": "", "sentence": "", "further": ()}
    verdict, *further = run.findings
    capitalized = verdict.evidence[:1].upper() + verdict.evidence[1:]
    return {
        "tone": tone(verdict.condition),
        "label": verdict.condition,
        # A sentence begins with a capital, a code is called z.
        "sentence": verdict.evidence if verdict.evidence.startswith("z ") else capitalized,
        "further": further,
    }


def _sections(runs: Sequence[ReportRun]) -> list[dict[str, Any]]:
    """Return contributed sections in the order in which runs have them, each with the panels of all runs."""
    sections: dict[str, dict[str, Any]] = {}
    for index, run in enumerate(runs):
        for panel in run.views.panels:
            section = sections.setdefault(panel.section.name, {"section": panel.section, "panels": []})
            html = Markup(panel.html)
            section["panels"].append({"name": run.name, "color": color(index), "html": html, "why": panel.why})
    for entry in sections.values():
        entry["style"] = Markup(entry["section"].style)
    return list(sections.values())


def _diagnosis(run: ReportRun, index: int) -> dict[str, Any]:
    """Return what the page says of a diagnosis: findings, numbers as text, and remedies with their fragments."""
    found = run.diagnosis or {}
    condition = found["verdict"]
    return {
        "name": run.name,
        "color": color(index),
        "tone": tone(condition),
        "verdict": condition,
        "findings": found["findings"],
        "history": (found.get("history") or {}).get("sentence", ""),
        "on": f"{found['split']} split, {found['examples']:,} examples",
        "numbers": [(name.replace("_", " "), _measured(e)) for name, e in found["measurements"].items()],
        "skipped": found.get("skipped") or {},
        "remedies": [
            {**p, "yaml": yaml.safe_dump(p["fragment"], sort_keys=False, allow_unicode=True)}
            for p in found.get("prescriptions", ())
            if condition not in set(Verdict)
        ],
    }


def _measured(estimate: Mapping[str, Any]) -> str:
    value, error = estimate["value"], estimate["standard_error"]
    if value is None:
        return "not finite"
    return f"{value:.4g}{'' if error is None else f' ± {error:.2g}'} {estimate['unit']}".replace("-", "−")


def _omitted(runs: Sequence[ReportRun], section: Section) -> list[tuple[str, str]]:
    """Return why runs have nothing in a section; one unnamed reason where it is the same for all."""
    if section == "training":
        reasons = [(run.name, "The run has no metrics yet.") for run in runs if not run.curves]
    else:
        reasons = [(run.name, why) for run in runs if (why := _reason(run, section))]
    if len(reasons) == len(runs) and len({why for _, why in reasons}) == 1:
        return [("", reasons[0][1])]
    return reasons


def _reason(run: ReportRun, section: Section) -> str:
    views = run.views
    # A run that shows itself in a section made for its data lacks no pictures.
    shown = views.pictures or views.panels or None
    present = {"kl": views.kl_per_dimension, "pictures": shown, "latents": views.latent_map}[section]
    return "" if present is not None else views.omitted.get(section, "The run has none.")


def _gallery(run: ReportRun, pictures: Pictures, index: int) -> Gallery:
    shown = "means" if pictures.show_means else "samples"
    prior_words = f"{len(pictures.prior)} {shown} for codes drawn from the prior"
    return Gallery(
        name=run.name,
        color=color(index),
        reconstructions=_reconstructions(pictures),
        prior=_picture("from the prior", pictures.prior, prior_words, _PRIOR_COLUMNS),
        traversals=_traversals(run, pictures),
        positions=tuple(f"{position:+g}".replace("-", "−").replace("+0", "0") for position in pictures.positions),
        show_means=pictures.show_means,
    )


def _reconstructions(pictures: Pictures) -> tuple[Picture, ...]:
    count = len(pictures.originals)
    rows = [
        _picture("input", pictures.originals, f"{count} inputs"),
        _picture("sample", pictures.samples, f"a reconstruction of each of the {count} inputs, sampled"),
    ]
    if pictures.means is not None:
        rows.append(_picture("mean", pictures.means, f"the mean reconstruction of each of the {count} inputs"))
    return tuple(rows)


def _traversals(run: ReportRun, pictures: Pictures) -> tuple[Picture, ...]:
    kl = run.views.kl_per_dimension
    first, last = pictures.positions[0], pictures.positions[-1]
    rows = []
    for dimension, images in zip(pictures.traversed, pictures.traversals, strict=True):
        label = f"z{dimension}" if kl is None else f"z{dimension} · {kl[dimension]:.2f} nats"
        words = f"dimension {dimension} moved from {first:g} to {last:g} standard deviations of the prior"
        rows.append(_picture(label, images, words))
    return tuple(rows)


def _picture(label: str, images: PixelArray, alternative: str, columns: int | None = None) -> Picture:
    laid_out = strip(images, columns)
    return Picture(label, data_uri(laid_out), laid_out.shape[1], laid_out.shape[0], alternative)


def _figure(chart: Chart) -> dict[str, Any]:
    figure: dict[str, Any] = json.loads(chart.figure.to_json())
    return {"key": chart.key, "data": figure["data"], "layout": figure["layout"]}


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
