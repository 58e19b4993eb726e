// Verdicts by key: a, o at once; x goes to the number first, Enter gives the verdict. Waits while one is on its way.
(() => {
  "use strict";
  let isSending = false;
  document.addEventListener("htmx:beforeRequest", () => (isSending = true));
  document.addEventListener("htmx:afterRequest", () => (isSending = false));
  // A verdict that was refused (somebody else was faster): the next record without one comes up.
  document.addEventListener("htmx:responseError", () => location.reload());
  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select, dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!"axo".includes(event.key) || event.key.length !== 1) return;
    event.preventDefault();
    if (isSending) return;
    if (event.key === "x") document.getElementById("missed-count")?.select();
    else document.querySelector(`[data-verdict="${event.key}"]`)?.click();
  });
})();
