"use strict";
// Draws the charts in the colours of the reader's scheme, and again when the scheme changes.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
// On a touch screen a drag is meant for the page, not for the chart's zoom.
const touch = matchMedia("(pointer: coarse)");

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: value("--line"), linecolor: value("--line"), tickcolor: value("--line"), automargin: true };
  return {
    ...layout,
    dragmode: touch.matches ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: value("--quiet") },
    hoverlabel: {
      ...layout.hoverlabel,
      bgcolor: value("--panel"),
      bordercolor: value("--line"),
      font: { color: value("--text") },
    },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
  };
}

// No bar of buttons: dragging zooms and a double click goes back, as the page says.
const config = { responsive: true, displayModeBar: false };

function draw() {
  return Promise.all(
    figures.map(({ key, data, layout }) =>
      Plotly.react(document.getElementById(`chart-${key}`), data, themed(layout), config),
    ),
  );
}

dark.addEventListener("change", draw);
draw().then(() => {
  document.documentElement.dataset.charts = "drawn";
});
