// What every page has: the look switch, menus that close, times in the reader's zone, confirmations, keys.
(() => {
  "use strict";
  const root = document.documentElement;

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function switchLook() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("steward-theme", root.dataset.theme);
    } catch {
      // The choice then lasts for this page only.
    }
  }

  function localTimes(within) {
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    for (const time of within.querySelectorAll("time[datetime]:not([data-local])")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.valueOf())) continue;
      time.dataset.local = "1";
      time.title = time.textContent.trim();
      time.textContent = format.format(moment);
    }
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-switch-look]")) switchLook();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens)?.showModal();
    const closer = event.target.closest("[data-closes]");
    if (closer) closer.closest("dialog")?.close();
    const copier = event.target.closest("[data-copies]");
    if (copier) copy(copier);
    const view = event.target.closest("[data-view]");
    if (view) showView(view);
  });

  // The text of the element that a button names. Without the right to the clipboard (plain http) it is selected instead.
  async function copy(button) {
    const source = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: copy it";
    }
    setTimeout(() => (button.textContent = "Copy"), 2500);
  }

  // Two ways to look at the same thing: buttons carry data-view="name", panels data-panel="name".
  function showView(button) {
    const group = button.closest("[data-views]");
    for (const other of group.querySelectorAll("[data-view]")) other.setAttribute("aria-pressed", String(other === button));
    for (const panel of group.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== button.dataset.view;
  }

  // A form is sent once: a second click, while the answer to the first is under way, would ask twice. One that fetches a
  // file leaves the page as it is and may be sent again, and so may any whose answer got lost.
  const ANSWER_MS = 10_000;
  const underWay = new WeakSet();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.getAttribute("method") !== "post") return; // a field may be called “method”
    const question = form.dataset.confirm;
    if (underWay.has(form) || (question && !window.confirm(question))) {
      event.preventDefault();
      return;
    }
    if ("file" in form.dataset) return;
    underWay.add(form);
    setTimeout(() => underWay.delete(form), ANSWER_MS);
  });

  // "g" and a letter goes to a room of the workspace, "?" lists the keys. Never while somebody types.
  let isGoing = false;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
    const isTyping = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isGoing) {
      isGoing = false;
      document.querySelector(`.nav a[data-key="${CSS.escape(event.key)}"]`)?.click();
    } else if (event.key === "g") {
      isGoing = true;
      setTimeout(() => (isGoing = false), 1500);
    } else if (event.key === "?") {
      document.getElementById("keys")?.showModal();
    } else if (event.key === "t") {
      switchLook();
    }
  });

  document.addEventListener("DOMContentLoaded", () => localTimes(document));
  document.addEventListener("htmx:load", (event) => localTimes(event.target));
})();
