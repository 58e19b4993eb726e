// The curves of several runs laid over one another. Each run's points are fetched by themselves, and again while it goes.
(() => {
  "use strict";
  const card = document.getElementById("overlay");
  if (!card) return;
  const POLL_MS = 3000;
  const TABLE_ROWS = 60;
  const FEW_POINTS = 2000;
  const SCALES = { memory_bytes: 2 ** -30 };
  const chosen = document.getElementById("overlay-quantity");
  const smoothing = document.getElementById("overlay-smoothing");
  const table = document.getElementById("overlay-table");
  const runs = [...card.querySelectorAll("[data-source]")].map((element) => ({
    name: element.textContent.trim(),
    tone: Number(element.dataset.tone),
    source: element.dataset.source,
    curves: { train: {}, validation: {} },
  }));
  let isLog = false;

  function points(run) {
    const [split, quantity] = chosen.value.split(".");
    const scale = SCALES[quantity] ?? 1;
    return (run.curves[split][quantity] ?? []).map(([step, value]) => [step, value * scale]);
  }

  function draw() {
    const weight = chosen.value.startsWith("train.") ? Number(smoothing.value) : 0;
    const series = runs.map((run) => ({
      name: run.name,
      tone: run.tone,
      dash: run.tone > 3 ? "6 4" : "",
      points: steward.smooth(points(run), weight),
      hasDots: chosen.value.startsWith("validation."),
    }));
    document.getElementById("overlay-empty").hidden = series.some((each) => each.points.length);
    steward.lineChart(document.getElementById("overlay-chart"), { isLog, height: 340, series });
    fillTable();
  }

  function cell(kind, text) {
    return Object.assign(document.createElement(kind), { className: "num", textContent: text });
  }

  function fillTable() {
    if (!table.closest("details").open) return;
    const columns = runs.map((run) => [run.name, new Map(points(run))]);
    const all = [...new Set(columns.flatMap(([, values]) => [...values.keys()]))].sort((a, b) => a - b);
    const stride = Math.max(1, Math.ceil(all.length / TABLE_ROWS));
    const steps = all.filter((_, place) => place % stride === 0 || place === all.length - 1);
    table.tHead.rows[0].replaceChildren(...["Step", ...columns.map(([name]) => name)].map((text) => cell("th", text)));
    table.tBodies[0].replaceChildren(...steps.map((step) => {
      const row = document.createElement("tr");
      row.append(cell("td", step.toLocaleString("en")));
      for (const [, values] of columns) row.append(cell("td", values.has(step) ? steward.format(values.get(step)) : ""));
      return row;
    }));
  }

  function take(run, news) {
    for (const [split, quantities] of Object.entries(news)) {
      for (const [quantity, fresh] of Object.entries(quantities)) {
        run.curves[split][quantity] = steward.thin(steward.withNews(run.curves[split][quantity] ?? [], fresh), FEW_POINTS);
      }
    }
  }

  chosen.addEventListener("change", draw);
  table.closest("details").addEventListener("toggle", fillTable);
  steward.drawOnChange(card, smoothing, draw, (isLogNow) => { isLog = isLogNow; });
  for (const run of runs) {
    steward.follow(run.source, POLL_MS, (news) => {
      take(run, news);
      draw();
    });
  }
})();
