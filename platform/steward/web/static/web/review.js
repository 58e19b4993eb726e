// The review desk by keyboard. Verdicts: a, x, o. Backspace takes the last mark or verdict back; the arrows look at the
// next or the previous record. In span mode (s) the arrows go from word to word, Shift widens, a digit names the type.
// Offsets count code points of the text as it is shown, without the notes that explain a mark.
(() => {
  "use strict";
  let isSending = false;
  let marks = [];
  let stops = null; // the words and masked pieces of the record, while span mode is on
  let from = 0;
  let to = 0;
  let lastType = "PERSON";
  const desk = () => document.getElementById("desk");
  const records = () => [...desk().querySelectorAll(".record[data-slot]")];

  function textNodes(record) {
    const walker = document.createTreeWalker(record, NodeFilter.SHOW_TEXT, (node) =>
      node.parentElement.closest(".why") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    const nodes = [];
    for (let at = 0; walker.nextNode(); at += walker.currentNode.length) nodes.push({ node: walker.currentNode, at });
    return nodes;
  }

  const textOf = (record) => textNodes(record).map((each) => each.node.data).join("");
  const codePoints = (text, units) => Array.from(text.slice(0, units)).length;

  function rangeOf(record, start, end) {
    const range = document.createRange();
    for (const { node, at } of textNodes(record)) {
      if (start >= at && start < at + node.length) range.setStart(node, start - at);
      if (end > at && end <= at + node.length) range.setEnd(node, end - at);
    }
    return range;
  }

  function unitsAt(record, container, offset) {
    const point = document.createRange();
    point.setStart(container, offset);
    point.collapse(true);
    let units = 0;
    for (const { node } of textNodes(record)) {
      if (node === container) return units + offset;
      if (point.comparePoint(node, 0) >= 0) return units;
      units += node.length;
    }
    return units;
  }

  function selected() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return null;
    const range = selection.getRangeAt(0);
    const record = records().find((each) => each.contains(range.startContainer));
    if (!record) return null;
    const text = textOf(record);
    let start = unitsAt(record, range.startContainer, range.startOffset);
    let end = record.contains(range.endContainer) ? unitsAt(record, range.endContainer, range.endOffset) : text.length;
    while (start < end && /\s/.test(text[start])) start += 1;
    while (end > start && /\s/.test(text[end - 1])) end -= 1;
    return start < end ? { record, start, end, text } : null;
  }

  // ---- marks -------------------------------------------------------------------------------------------------------
  function addMissed(type) {
    const found = selected();
    if (!found) return;
    const { record, start, end, text } = found;
    const wraps = [];
    for (const { node, at } of textNodes(record)) {
      const begin = Math.max(start - at, 0);
      const stop = Math.min(end - at, node.length);
      if (begin >= stop) continue;
      const piece = document.createRange();
      piece.setStart(node, begin);
      piece.setEnd(node, stop);
      const wrap = document.createElement("mark");
      wrap.className = "missed-mark";
      piece.surroundContents(wrap);
      wraps.push(wrap);
    }
    marks.push({
      wraps, shown: text.slice(start, end),
      span: { fault: "missed", slot: Number(record.dataset.slot), start: codePoints(text, start), end: codePoints(text, end), type },
    });
    lastType = type;
    getSelection().removeAllRanges();
    if (stops) enterSpans(Math.min(to + 1, stops.length - 1));
    show();
  }

  function toggleMasked(piece) {
    const known = marks.find((mark) => mark.piece === piece);
    if (known) return removeMark(known);
    piece.classList.add("wrong");
    piece.blur();
    const span = { fault: "overmasked", slot: Number(piece.closest(".record").dataset.slot), start: Number(piece.dataset.start), end: Number(piece.dataset.end), type: piece.dataset.type };
    marks.push({ piece, wraps: [], span, shown: piece.firstChild.data });
    return show();
  }

  function removeMark(mark) {
    marks = marks.filter((each) => each !== mark);
    mark.piece?.classList.remove("wrong");
    for (const wrap of mark.wraps) {
      const parent = wrap.parentNode;
      wrap.replaceWith(...wrap.childNodes);
      parent.normalize();
    }
    if (stops) enterSpans(from);
    show();
  }

  function show() {
    const list = document.getElementById("marks");
    list.replaceChildren(...marks.map((mark) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = `small-button mark-chip ${mark.span.fault}`;
      button.textContent = `${mark.span.fault === "missed" ? "missed" : "not an identifier"}: ${mark.shown} · ${mark.span.type.replaceAll("_", " ").toLowerCase()} ✕`;
      button.addEventListener("click", () => removeMark(mark));
      return button;
    }));
    list.hidden = !marks.length;
    for (const field of desk().querySelectorAll("input[name=spans]")) field.value = JSON.stringify(marks.map((mark) => mark.span));
    const missed = marks.filter((mark) => mark.span.fault === "missed").length;
    // What is marked is never dropped by a verdict that does not carry it.
    for (const [verdict, isOff] of [["a", marks.length > 0], ["o", missed > 0]]) {
      const button = desk().querySelector(`[data-verdict="${verdict}"]`);
      if (button) button.disabled = isOff;
    }
    const count = document.getElementById("missed-count");
    if (count) {
      count.closest("form").classList.toggle("counted", missed > 0);
      if (missed) count.value = String(missed);
    }
    showPalette();
  }

  function showPalette() {
    const palette = document.getElementById("palette");
    if (palette) palette.hidden = !stops && !selected();
    desk().classList.toggle("in-spans", Boolean(stops));
  }

  // ---- span mode ---------------------------------------------------------------------------------------------------
  function enterSpans(place = 0) {
    stops = [];
    for (const record of records()) {
      const text = textOf(record);
      const masked = [...record.querySelectorAll(".found")].map((piece) => {
        const start = unitsAt(record, piece.firstChild, 0);
        return { record, piece, start, end: start + piece.firstChild.length };
      });
      const words = [...text.matchAll(/[\p{L}\p{N}](?:[\p{L}\p{N}'’@._/-]*[\p{L}\p{N}])?/gu)]
        .map((word) => ({ record, start: word.index, end: word.index + word[0].length }))
        .filter((word) => !masked.some((each) => word.start < each.end && word.end > each.start));
      stops.push(...[...words, ...masked].sort((one, other) => one.start - other.start));
    }
    from = to = Math.max(0, Math.min(place, stops.length - 1));
    point();
  }

  function leaveSpans() {
    stops = null;
    getSelection().removeAllRanges();
    for (const piece of desk().querySelectorAll(".at")) piece.classList.remove("at");
    showPalette();
  }

  function point() {
    for (const piece of desk().querySelectorAll(".at")) piece.classList.remove("at");
    if (!stops.length) return;
    if (stops[from].record !== stops[to].record) from = to;
    const [first, last] = from <= to ? [stops[from], stops[to]] : [stops[to], stops[from]];
    getSelection().removeAllRanges();
    if (first === last && first.piece) first.piece.classList.add("at");
    else getSelection().addRange(rangeOf(first.record, first.start, last.end));
    (first.piece || first.record).scrollIntoView({ block: "nearest" });
    showPalette();
  }

  function spanKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
    const choice = desk().querySelector(`#palette [data-digit="${CSS.escape(event.key)}"]`);
    if (step) {
      to = Math.max(0, Math.min(to + step, stops.length - 1));
      if (!event.shiftKey) from = to;
      point();
    } else if (choice) addMissed(choice.dataset.type);
    else if (event.key === "Enter") {
      if (from === to && stops[to].piece) toggleMasked(stops[to].piece);
      else addMissed(lastType);
    } else if (event.key === "Escape" || event.key === "s") leaveSpans();
    else return false;
    return true;
  }

  // ---- keys --------------------------------------------------------------------------------------------------------
  function press(selector) {
    const button = desk()?.querySelector(selector);
    button?.click();
    return Boolean(button);
  }

  function deskKey(event) {
    if (stops && spanKey(event)) return true;
    switch (event.key) {
      case "a": return press('[data-verdict="a"]');
      case "o": return press('[data-verdict="o"]');
      case "x":
        if (marks.some((mark) => mark.span.fault === "missed")) return press('[data-verdict="x"]');
        document.getElementById("missed-count")?.select();
        return true;
      case "s":
        if (desk().querySelector("#palette")) enterSpans();
        return true;
      case "Backspace":
        if (marks.length) removeMark(marks[marks.length - 1]);
        else press("[data-undo]");
        return true;
      case "ArrowRight": return press("[data-step=next]");
      case "ArrowLeft": return press("[data-step=previous]");
      default: {
        const choice = selected() && desk().querySelector(`#palette [data-digit="${CSS.escape(event.key)}"]`);
        if (choice) addMissed(choice.dataset.type);
        return Boolean(choice);
      }
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select, dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isSending) {
      if ("axo".includes(event.key) || event.key === "Backspace") event.preventDefault();
      return;
    }
    if (deskKey(event)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeRequest", () => (isSending = true));
  document.addEventListener("htmx:afterRequest", () => (isSending = false));
  document.addEventListener("htmx:afterSwap", () => {
    marks = [];
    stops = null;
  });
  // A verdict that was refused (somebody else was faster): the next record without one comes up.
  document.addEventListener("htmx:responseError", () => location.reload());
  document.addEventListener("selectionchange", () => desk() && showPalette());
  document.addEventListener("click", (event) => {
    const choice = event.target.closest("#palette [data-type]");
    if (choice) addMissed(choice.dataset.type);
    const piece = event.target.closest("#desk .record[data-slot] .found");
    if (piece && getSelection().isCollapsed) toggleMasked(piece);
  });
  // A press on the palette must not take the selection away.
  document.addEventListener("mousedown", (event) => event.target.closest("#palette button") && event.preventDefault());
  document.addEventListener("change", (event) => {
    if (event.target.id === "other-type" && event.target.value) {
      addMissed(event.target.value);
      event.target.value = "";
      event.target.blur();
    }
  });
})();
