// The score of a run's sample answers over its steps. Drawn from the measurements, again and again until the run is over.
(() => {
  "use strict";
  const POLL_MS = 3000;
  const card = document.getElementById("answer-scores");
  if (!card) return;
  const chart = card.querySelector(".chart");
  let points = [];
  let after = null;

  function draw() {
    card.hidden = !points.length;
    if (points.length) {
      steward.lineChart(chart, { height: 200, hasLegend: false, series: [{ name: "score", tone: 3, points, hasDots: true }] });
    }
  }

  async function ask() {
    let isOver = false;
    try {
      const address = after === null ? card.dataset.source : `${card.dataset.source}?after=${after}`;
      const answer = await fetch(address, { headers: { Accept: "application/json", "Steward-Background": "1" } });
      if (answer.status === 401) return location.reload();
      if (answer.ok) {
        const news = await answer.json();
        after = news.after;
        isOver = news.is_over;
        const fresh = news.curves.validation.score ?? [];
        if (fresh.length) {
          points = steward.withNews(points, fresh);
          draw();
        }
      }
    } catch {
      // The connection is gone for now; the next round asks again from the same place.
    }
    if (!isOver) setTimeout(ask, POLL_MS);
    return undefined;
  }

  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 4) return;
    width = entry.contentRect.width;
    draw();
  }).observe(card);
  ask();
})();
