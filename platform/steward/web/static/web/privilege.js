// The decision on a privileged record by keyboard: r or w chooses and goes to the reason, Enter sends what was chosen,
// Esc leaves the reason, the arrows go to the previous and the next record.
(() => {
  "use strict";
  const form = document.getElementById("privilege");
  const reason = document.getElementById("reason");
  let chosen = null;

  function choose(button) {
    chosen?.classList.remove("chosen");
    chosen = button;
    chosen?.classList.add("chosen");
    if (chosen) reason.focus();
  }

  reason?.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      choose(null);
      reason.blur();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && chosen) {
      event.preventDefault();
      form.requestSubmit(chosen);
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select, dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = document.querySelector(`.desk [data-key="${CSS.escape(event.key)}"]`);
    if (!target) return;
    event.preventDefault();
    if (target.tagName === "A") target.click();
    else choose(target);
  });
})();
