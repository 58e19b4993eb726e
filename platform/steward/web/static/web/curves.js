// The live curves of a fine-tune. Also `steward.smooth` and `steward.thin` for the page that lays the curves of several
// runs over one another.
(() => {
  "use strict";
  const POLL_MS = 2000;
  const MOST_POINTS = 4000;
  const FEW_POINTS = 2000;
  const TABLE_ROWS = 200;

  // Exponential mean without the pull of its start: the weights of the points so far add up to one.
  function smooth(points, weight) {
    if (!weight) return points;
    let mean = 0;
    let total = 0;
    return points.map(([step, value]) => {
      mean = weight * mean + (1 - weight) * value;
      total = weight * total + (1 - weight);
      return [step, mean / total];
    });
  }

  // At most `most` points: of every stretch of steps the lowest and the highest, besides the first and the last.
  function thin(points, most) {
    if (points.length <= most) return points;
    const [first, last] = [points[0], points.at(-1)];
    const width = (last[0] - first[0] + 1) / (most / 2 - 1);
    const parts = new Map();
    for (const point of points) {
      const part = Math.floor((point[0] - first[0]) / width);
      const [low, high] = parts.get(part) ?? [point, point];
      parts.set(part, [point[1] < low[1] ? point : low, point[1] > high[1] ? point : high]);
    }
    return [...new Set([first, ...[...parts.values()].flat(), last])].sort((a, b) => a[0] - b[0]);
  }

  window.steward = { ...window.steward, smooth, thin };
  const card = document.getElementById("curves");
  if (!card?.dataset.source) return;

  const QUANTITIES = {
    learning_rate: { title: "Learning rate", name: "learning rate" },
    grad_norm: { title: "Norm of the gradient", name: "gradient norm", tone: 2 },
    tokens_per_second: { title: "Tokens a second", name: "tokens a second" },
    memory_bytes: { title: "Memory, GiB", name: "GiB", scale: 2 ** -30, tone: 2 },
    temperature_celsius: { title: "Temperature, °C", name: "°C", tone: 3 },
    power_watts: { title: "Power, W", name: "watts", tone: 3 },
    score: { title: "Score of the sample answers", name: "score", tone: 3, split: "validation" },
  };
  const smoothing = document.getElementById("smoothing");
  const table = document.getElementById("curves-table");
  const curves = { train: {}, validation: {} };
  let isLog = false;
  let isThinned = false;

  const curve = (split, quantity) => curves[split][quantity] ?? [];

  function draw() {
    const [train, held] = [curve("train", "loss"), curve("validation", "loss")];
    const weight = Number(smoothing.value);
    document.getElementById("curves-empty").hidden = train.length > 0 || held.length > 0;
    steward.lineChart(document.getElementById("loss-chart"), {
      isLog,
      height: 330,
      series: [
        { name: "training", tone: 1, points: smooth(train, weight), faint: weight ? train : [] },
        { name: "held out", tone: 3, points: held, hasDots: true },
      ],
    });
    const more = document.getElementById("more-curves");
    const figures = [...more.querySelectorAll("[data-quantity]")];
    const pointsOf = ({ dataset: { quantity } }) => curve(QUANTITIES[quantity].split ?? "train", quantity);
    // All are laid out before the first is drawn: a hidden chart has no width, and one alone has too much.
    for (const figure of figures) figure.hidden = !pointsOf(figure).length;
    const shown = figures.filter((figure) => !figure.hidden);
    more.hidden = !shown.length;
    for (const figure of shown) {
      const { title, name, tone = 1, scale = 1 } = QUANTITIES[figure.dataset.quantity];
      const points = pointsOf(figure).map(([step, value]) => [step, value * scale]);
      figure.querySelector("figcaption").textContent = title;
      steward.lineChart(figure.querySelector(".chart"), { height: 150, hasLegend: false, series: [{ name, tone, points }] });
    }
    fillTable();
  }

  // The same numbers to read: every step that has a held-out loss, and evenly chosen ones between.
  function fillTable() {
    if (!table.closest("details").open) return;
    const columns = [["Training loss", curve("train", "loss"), 1], ["Held-out loss", curve("validation", "loss"), 1]];
    for (const [quantity, { title, scale = 1, split = "train" }] of Object.entries(QUANTITIES)) columns.push([title, curve(split, quantity), scale]);
    const filled = columns.filter(([, points]) => points.length).map(([title, points, scale]) => [title, new Map(points), scale]);
    const train = curve("train", "loss").map(([step]) => step);
    const stride = Math.max(1, Math.ceil(train.length / TABLE_ROWS));
    const chosen = train.filter((_, place) => place % stride === 0 || place === train.length - 1);
    const steps = [...new Set([...chosen, ...curve("validation", "loss").map(([step]) => step)])].sort((a, b) => a - b);
    table.tHead.rows[0].replaceChildren(...["Step", ...filled.map(([title]) => title)].map((text) => cell("th", text)));
    table.tBodies[0].replaceChildren(...steps.map((step) => {
      const row = document.createElement("tr");
      row.append(cell("td", step.toLocaleString("en")));
      for (const [, values, scale] of filled) row.append(cell("td", values.has(step) ? steward.format(values.get(step) * scale) : ""));
      return row;
    }));
    document.getElementById("curves-thinned").hidden = !isThinned && stride === 1;
  }

  function cell(kind, text) {
    const made = Object.assign(document.createElement(kind), { className: "num", textContent: text });
    if (kind === "th") made.scope = "col";
    return made;
  }

  // Returns whether anything came.
  function take(news) {
    let hasNews = false;
    for (const [split, quantities] of Object.entries(news)) {
      for (const [quantity, points] of Object.entries(quantities)) {
        if (!points.length) continue;
        hasNews = true;
        const sorted = steward.withNews(curve(split, quantity), points);
        isThinned ||= sorted.length >= FEW_POINTS;
        curves[split][quantity] = sorted.length > MOST_POINTS ? thin(sorted, FEW_POINTS) : sorted;
      }
    }
    return hasNews;
  }

  table.closest("details").addEventListener("toggle", fillTable);
  steward.drawOnChange(card, smoothing, draw, (isLogNow) => { isLog = isLogNow; });
  steward.follow(card.dataset.source, POLL_MS, (news, isFirst) => {
    if (take(news) || isFirst) draw();
  });
})();
