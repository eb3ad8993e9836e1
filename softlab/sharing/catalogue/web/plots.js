// Histograms of 3.figures.json: shares of rows in bins of equal width from 0 to 1.

const BINS = 20;
const PLOT = { width: 260, height: 124, left: 34, right: 8, top: 10, bottom: 22 };

function readFigures(text, version) {
  const found = JSON.parse(text);
  const isHistogram = (counts) =>
    Array.isArray(counts) && counts.length === BINS && counts.every((each) => Number.isInteger(each) && each >= 0);
  if (
    !isRecord(found) ||
    found.format !== "softlab-figures" ||
    found.format_version !== 1 ||
    !isHistogram(found.confidence) ||
    !isNumberIn(found.confidence_temperature, 0, 1e6) ||
    !Number.isInteger(found.rows) ||
    !Array.isArray(found.temperatures) ||
    !found.temperatures.every((each) => isNumberIn(each, 0, 1e6)) ||
    !Array.isArray(found.captured_mass) ||
    found.captured_mass.length !== found.temperatures.length ||
    found.captured_mass.length > 64 ||
    !found.captured_mass.every(isHistogram)
  ) {
    throw new Error("they are not well-formed");
  }
  if (found.digest !== version.digest) throw new Error("they are of another store");
  return found;
}

function drawFigures(figures, version) {
  const isSigmoid = version.summary.head === "sigmoid";
  const sure = isSigmoid ? "Probability of the most probable class" : "Teacher's confidence";
  const kept = isSigmoid ? "Share of the kept classes" : "Captured mass";
  return [
    make(
      "div",
      { class: "plots" },
      plot(`${sure}, ${temperature(figures.confidence_temperature)}`, figures.confidence, "confidence"),
      figures.captured_mass.map((counts, at) =>
        plot(`${kept}, ${temperature(figures.temperatures[at])}`, counts, "captured"),
      ),
    ),
    make("p", { class: "note" }, `Share of rows, over ${count(figures.rows)} rows spread over the store.`),
  ];
}

function plot(title, counts, kind) {
  const total = counts.reduce((sum, each) => sum + each, 0) || 1;
  const top = Math.max(...counts) / total || 1;
  const inner = { width: PLOT.width - PLOT.left - PLOT.right, height: PLOT.height - PLOT.top - PLOT.bottom };
  const floor = PLOT.top + inner.height;
  const bars = counts.map((each, at) => {
    const height = each ? Math.max(1, (inner.height * each) / total / top) : 0;
    const range = `${(at / BINS).toFixed(2)} to ${((at + 1) / BINS).toFixed(2)}`;
    return makeSvg(
      "rect",
      { x: PLOT.left + (at * inner.width) / BINS + 0.75, y: floor - height, width: inner.width / BINS - 1.5, height },
      makeSvg("title", {}, `${range}: ${share(each / total, 1)} of rows`),
    );
  });
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((value) =>
    makeSvg(
      "text",
      {
        x: PLOT.left + value * inner.width,
        y: PLOT.height - 6,
        "text-anchor": value === 1 ? "end" : value ? "middle" : "start",
      },
      value,
    ),
  );
  const lines = [0, 1].map((value) =>
    makeSvg("line", {
      x1: PLOT.left,
      x2: PLOT.width - PLOT.right,
      y1: floor - value * inner.height,
      y2: floor - value * inner.height,
      class: value ? "grid" : "axis",
    }),
  );
  const scale = makeSvg(
    "text",
    { x: PLOT.left - 5, y: PLOT.top + 4, "text-anchor": "end" },
    share(top, 0).replace(" ", ""),
  );
  const drawing = makeSvg(
    "svg",
    { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": `${title}: ${spoken(counts, total)}` },
    lines,
    bars,
    ticks,
    scale,
  );
  return make("figure", { class: kind }, make("figcaption", {}, title), drawing);
}

function spoken(counts, total) {
  const above = (from) => share(counts.slice(from).reduce((sum, each) => sum + each, 0) / total, 0);
  return `${above(19)} of rows above 0.95, ${above(10)} above 0.5`;
}
