// Draws the charts of a page in its theme. The same numbers are in the table below each.

let drawing = null; // Vega-Embed, once it is loaded
const views = new Map(); // of each figure, what was drawn

function load() {
  drawing ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.charts;
    script.onload = () => resolve(window.vegaEmbed);
    script.onerror = reject;
    document.head.append(script);
  });
  return drawing;
}

function isDark() {
  return getComputedStyle(document.documentElement).getPropertyValue("--is-dark").trim() === "1";
}

async function draw(figure) {
  const found = figure.querySelector(isDark() ? "script.chart-dark" : "script.chart-light");
  if (!found) return;
  let place = figure.querySelector(".drawn");
  if (!place) {
    place = document.createElement("div");
    place.className = "drawn";
    place.setAttribute("aria-hidden", "true"); // its caption and its table say the same
    figure.querySelector("figcaption").after(place);
  }
  const { $schema, ...chart } = JSON.parse(found.textContent); // the script is of the version that it is of
  const spec = { ...chart, background: "transparent" };
  try {
    const embed = await load();
    views.get(figure)?.finalize();
    // `ast`: expressions are interpreted, as the page's policy allows no eval.
    const theme = isDark() ? "dark" : "light";
    views.set(figure, await embed(place, spec, { mode: "vega-lite", actions: false, ast: true, renderer: "svg", tooltip: { theme } }));
  } catch {
    place.remove(); // the table is there
    figure.querySelector("details")?.setAttribute("open", "");
  }
}

function drawAll(within) {
  for (const [figure, view] of views) {
    if (!figure.isConnected) {
      view.finalize();
      views.delete(figure);
    }
  }
  for (const figure of within.querySelectorAll("figure.chart")) draw(figure);
}

drawAll(document);
document.addEventListener("carpool:drawn", (event) => drawAll(event.detail));
document.addEventListener("carpool:theme", () => drawAll(document));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
