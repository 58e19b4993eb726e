// The live curves of a fine-tune. Points are fetched in pieces behind the last one that came, so that a reload, a sleep or
// a lost connection costs nothing; asking stops when the run is over.
(() => {
  "use strict";
  const card = document.getElementById("curves");
  if (!card) return;
  const POLL_MS = 2000;
  const smoothing = document.getElementById("smoothing");
  const curves = { train: [], validation: [] };
  let after = 0;
  let attempt = null;
  let isLog = false;

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

  const column = (points, place) => points.filter((point) => point[place] != null).map((point) => [point[0], point[place]]);

  function draw() {
    const [train, held] = [column(curves.train, 1), column(curves.validation, 1)];
    const weight = Number(smoothing.value);
    document.getElementById("curves-empty").hidden = train.length > 0;
    steward.lineChart(document.getElementById("loss-chart"), {
      isLog,
      height: 330,
      series: [
        { name: "training", tone: 1, points: smooth(train, weight), faint: weight ? train : [] },
        { name: "held out", tone: 3, points: held, hasDots: true },
      ],
    });
    const small = { height: 150, hasLegend: false };
    steward.lineChart(document.getElementById("rate-chart"), { ...small, series: [{ name: "learning rate", tone: 1, points: column(curves.train, 2) }] });
    steward.lineChart(document.getElementById("norm-chart"), { ...small, series: [{ name: "gradient norm", tone: 2, points: column(curves.train, 3) }] });
    fillTable(train, held);
  }

  function fillTable(train, held) {
    const table = document.querySelector("#loss-table tbody");
    if (!table.closest("details").open) return;
    const heldAt = new Map(held);
    const stride = Math.max(1, Math.floor(train.length / 100));
    const steps = [...new Set([...train.filter((_, i) => i % stride === 0).map(([step]) => step), ...heldAt.keys()])].sort((a, b) => a - b);
    const trainAt = new Map(train);
    table.replaceChildren(...steps.map((step) => {
      const row = document.createElement("tr");
      for (const value of [step, trainAt.get(step)?.toFixed(4) ?? "", heldAt.get(step)?.toFixed(4) ?? ""]) {
        row.append(Object.assign(document.createElement("td"), { className: "num", textContent: value }));
      }
      return row;
    }));
  }

  // A step that was repeated after a resume replaces its first measurement.
  function take(name, points) {
    const bySteps = new Map(curves[name].map((point) => [point[0], point]));
    for (const point of points) bySteps.set(point[0], point);
    curves[name] = [...bySteps.values()].sort((a, b) => a[0] - b[0]);
  }

  async function ask() {
    let isOver = false;
    try {
      const address = `${card.dataset.source}?after=${after}`;
      const answer = await fetch(address, { headers: { Accept: "application/json", "Steward-Background": "1" } });
      if (answer.status === 401) return location.reload();
      if (answer.ok) {
        const news = await answer.json();
        if (attempt !== null && attempt !== news.attempt) return location.reload();
        attempt = news.attempt;
        after = news.after;
        isOver = news.is_over;
        take("train", news.train);
        take("validation", news.validation);
        if (news.train.length || news.validation.length || after === 0) draw();
      }
    } catch {
      // The connection is gone for now; the next round asks again from the same point.
    }
    if (!isOver) setTimeout(ask, POLL_MS);
    return undefined;
  }

  smoothing.addEventListener("input", draw);
  document.querySelector("#loss-table").closest("details").addEventListener("toggle", draw);
  for (const button of card.querySelectorAll("[data-scale]")) {
    button.addEventListener("click", () => {
      isLog = button.dataset.scale === "log";
      for (const other of card.querySelectorAll("[data-scale]")) other.setAttribute("aria-pressed", String(other === button));
      draw();
    });
  }
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 4) return;
    width = entry.contentRect.width;
    draw();
  }).observe(card);
  ask();
})();
