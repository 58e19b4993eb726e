// Small charts in SVG, drawn under the strict content policy: no inline style, no evaluation, nothing from outside.
//
//   steward.lineChart(element, { series: [{ name, tone: 1, points: [[x, y], …], faint: [[x, y], …] }], isLog, xName })
//
// Guarantees axes with round numbers, a legend, a pointer read-out that also follows the arrow keys and stays when the
// chart is drawn anew, and no more work than the points given. Points that are not finite, or not positive on a log scale, are left out.
(() => {
  "use strict";
  const SPACE = "http://www.w3.org/2000/svg";
  const MARGIN = { top: 10, right: 14, bottom: 30, left: 58 };

  function make(name, attributes, ...children) {
    const element = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // Round steps: 1, 2 or 5 times a power of ten.
  function linearTicks(low, high, wanted) {
    const rough = (high - low) / wanted || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    const ticks = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) ticks.push(Number(value.toPrecision(12)));
    return ticks;
  }

  function logTicks(low, high) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const digit of [1, 2, 5]) {
        const value = digit * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
      }
    }
    return ticks.length > 1 ? ticks : linearTicks(low, high, 4);
  }

  function format(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-3 || size >= 1e6) return value.toExponential(1).replace(".0e", "e");
    return Number(value.toPrecision(4)).toLocaleString("en");
  }

  function scaleOf(low, high, from, to, isLog) {
    const map = isLog ? Math.log10 : (value) => value;
    const [a, b] = [map(low), map(high)];
    return (value) => from + ((map(value) - a) / (b - a || 1)) * (to - from);
  }

  function usable(points, isLog) {
    return points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!isLog || y > 0));
  }

  function path(points, x, y) {
    return points.map(([px, py], i) => `${i ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
  }

  function legend(series) {
    const box = document.createElement("div");
    box.className = "row";
    for (const each of series) {
      const key = document.createElement("span");
      key.className = "key";
      const line = make("line", { x1: 0, x2: 12, y1: 6, y2: 6, "stroke-width": 3, class: `s${each.tone}` });
      if (each.dash) line.setAttribute("stroke-dasharray", "3 3");
      key.append(make("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, line), each.name);
      box.append(key);
    }
    return box;
  }

  function bounds(series, isLog) {
    const all = series.flatMap((each) => each.points);
    const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const room = isLog ? 1.06 : (high - low || Math.abs(high) || 1) * 0.06;
    return {
      x: [Math.min(...xs), Math.max(...xs)],
      y: isLog ? [low / room, high * room] : [low >= 0 ? Math.max(0, low - room) : low - room, high + room],
    };
  }

  function nearest(points, x) {
    let [low, high] = [0, points.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
  }

  function axes(svg, limits, x, y, size, options) {
    for (const tick of options.isLog ? logTicks(...limits.y) : linearTicks(...limits.y, 5)) {
      const at = y(tick);
      svg.append(make("line", { class: "grid", x1: MARGIN.left, x2: size.width - MARGIN.right, y1: at, y2: at }));
      svg.append(make("text", { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, format(tick)));
    }
    const bottom = size.height - MARGIN.bottom;
    svg.append(make("line", { class: "axis", x1: MARGIN.left, x2: size.width - MARGIN.right, y1: bottom, y2: bottom }));
    for (const tick of linearTicks(...limits.x, Math.max(2, Math.floor(size.width / 130)))) {
      svg.append(make("text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, format(tick)));
    }
  }

  function addPointer(element, svg, series, x, y, size, xName) {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    const cursor = make("line", { class: "cursor", y1: MARGIN.top, y2: size.height - MARGIN.bottom, visibility: "hidden" });
    const dots = series.map((each) => make("circle", { r: 4, class: `d${each.tone}`, visibility: "hidden" }));
    svg.append(cursor, ...dots);
    element.append(tip);
    const main = series.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
    let place = main.length - 1;

    function show() {
      const step = main[place][0];
      cursor.setAttribute("x1", x(step));
      cursor.setAttribute("x2", x(step));
      cursor.setAttribute("visibility", "visible");
      const lines = [`${xName} ${step.toLocaleString("en")}`];
      series.forEach((each, i) => {
        if (!each.points.length) return;
        const point = each.points[nearest(each.points, step)];
        dots[i].setAttribute("cx", x(point[0]));
        dots[i].setAttribute("cy", y(point[1]));
        dots[i].setAttribute("visibility", "visible");
        lines.push(`${each.name} ${format(point[1])}`);
      });
      tip.replaceChildren(...lines.map((text, i) => Object.assign(document.createElement(i ? "div" : "b"), { textContent: text })));
      tip.dataset.step = step;
      tip.hidden = false;
      const left = x(step) + 12;
      tip.style.left = `${left + tip.offsetWidth > size.width ? x(step) - tip.offsetWidth - 12 : left}px`;
    }

    function hide() {
      tip.hidden = true;
      for (const each of [cursor, ...dots]) each.setAttribute("visibility", "hidden");
    }

    svg.addEventListener("pointermove", (event) => {
      const at = event.clientX - svg.getBoundingClientRect().left;
      const share = (at - MARGIN.left) / (size.width - MARGIN.left - MARGIN.right);
      const [first, last] = [main[0][0], main[main.length - 1][0]];
      place = nearest(main, first + share * (last - first));
      show();
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("focus", () => svg.matches(":focus-visible") && show());
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -main.length, End: main.length }[event.key];
      if (!step) return;
      event.preventDefault();
      place = Math.min(main.length - 1, Math.max(0, place + step));
      show();
    });
    return (step) => {
      place = nearest(main, step);
      show();
    };
  }

  function lineChart(element, options) {
    const { isLog = false, xName = "step", height = 300, hasLegend = true } = options;
    const reading = readingOf(element);
    const series = options.series.map((each) => ({ ...each, points: usable(each.points, isLog), faint: usable(each.faint ?? [], isLog) }));
    element.replaceChildren();
    const drawn = series.filter((each) => each.points.length);
    if (!drawn.length) return;
    const size = { width: Math.max(260, element.clientWidth), height };
    const limits = bounds(drawn.map((each) => (each.faint.length ? { points: [...each.points, ...each.faint] } : each)), isLog);
    if (limits.x[0] === limits.x[1]) limits.x[1] += 1;
    const x = scaleOf(...limits.x, MARGIN.left, size.width - MARGIN.right, false);
    const y = scaleOf(...limits.y, size.height - MARGIN.bottom, MARGIN.top, isLog);
    const svg = make("svg", { viewBox: `0 0 ${size.width} ${size.height}`, height: size.height, role: "img", tabindex: 0 });
    svg.setAttribute("aria-label", `${drawn.map((each) => `${each.name}: ${format(each.points[0][1])} to ${format(each.points.at(-1)[1])}`).join("; ")}. Arrow keys read single points.`);
    axes(svg, limits, x, y, size, { isLog });
    for (const each of drawn) {
      if (each.faint.length) svg.append(make("path", { class: `line faint s${each.tone}`, d: path(each.faint, x, y) }));
      const line = make("path", { class: `line s${each.tone}`, d: path(each.points, x, y) });
      if (each.dash) line.setAttribute("stroke-dasharray", each.dash);
      svg.append(line);
      if (each.points.length === 1 || (each.points.length < 40 && each.hasDots)) {
        for (const [px, py] of each.points) svg.append(make("circle", { cx: x(px), cy: y(py), r: 3, class: `d${each.tone}` }));
      }
    }
    if (hasLegend) element.append(legend(drawn));
    element.append(svg);
    const readAt = addPointer(element, svg, drawn, x, y, size, xName);
    if (reading.hasFocus) svg.focus({ preventScroll: true });
    if (reading.step !== null) readAt(reading.step);
  }

  // What somebody is reading off a chart that is about to be drawn anew.
  function readingOf(element) {
    const tip = element.querySelector(".tip");
    return {
      hasFocus: element.contains(document.activeElement),
      step: tip && !tip.hidden ? Number(tip.dataset.step) : null,
    };
  }

  // Draws anew when the smoothing is moved, the scale is chosen (`choose` is told whether it is logarithmic), or the card
  // gets another width.
  function drawOnChange(card, smoothing, draw, choose) {
    smoothing.addEventListener("input", draw);
    for (const button of card.querySelectorAll("[data-scale]")) {
      button.addEventListener("click", () => {
        choose(button.dataset.scale === "log");
        for (const other of card.querySelectorAll("[data-scale]")) other.setAttribute("aria-pressed", String(other === button));
        draw();
      });
    }
    drawOnResize(card, draw);
  }

  function drawOnResize(card, draw) {
    let width = 0;
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - width) < 4) return;
      width = entry.contentRect.width;
      draw();
    }).observe(card);
  }

  // Points in order of their steps; one of a step that was repeated after a resume takes the place of the first.
  function withNews(points, news) {
    const bySteps = new Map([...points, ...news].map((point) => [point[0], point]));
    return [...bySteps.values()].sort((a, b) => a[0] - b[0]);
  }

  window.steward = { ...window.steward, drawOnChange, drawOnResize, format, lineChart, withNews };
})();
