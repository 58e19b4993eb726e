// The page of a run's sample answers: the score of each evaluation, drawn from the measurements until the run is over, and
// the place where somebody reads, which stays when the answers are laid out anew.
(() => {
  "use strict";
  const POLL_MS = 3000;
  const card = document.getElementById("answer-scores");
  if (!card) return;
  let points = [];

  function draw() {
    card.hidden = !points.length;
    if (points.length) {
      steward.lineChart(card.querySelector(".chart"), { height: 200, hasLegend: false, series: [{ name: "score", tone: 3, points, hasDots: true }] });
    }
  }

  // Newer answers come in at the left, so whoever has scrolled away from there keeps the distance to the other end.
  // The focus is kept by htmx, by the names of the elements.
  let places = new Map();
  document.addEventListener("htmx:beforeSwap", () => {
    const read = [...document.querySelectorAll("#answers [tabindex]")];
    places = new Map(read.map((box) => [box.id, { fromEnd: box.scrollLeft && box.scrollWidth - box.scrollLeft, top: box.scrollTop }]));
  });
  // Before anything is painted: settling comes a moment later, and the answers would jump there and back.
  document.addEventListener("htmx:afterSwap", () => {
    for (const [id, { fromEnd, top }] of places) {
      const box = document.getElementById(id);
      if (!box) continue;
      box.scrollLeft = fromEnd && box.scrollWidth - fromEnd;
      box.scrollTop = top;
    }
  });

  steward.drawOnResize(card, draw);
  steward.follow(card.dataset.source, POLL_MS, ({ validation: { score = [] } }) => {
    if (!score.length) return;
    points = steward.withNews(points, score);
    draw();
  });
})();
