// Marks the settings that differ from those of the run that is being cloned; the preview names them.
(() => {
  "use strict";
  function mark() {
    const changed = new Set((document.querySelector("[data-changed]")?.dataset.changed ?? "").split(" "));
    for (const field of document.querySelectorAll("#fields .field")) {
      const control = field.querySelector("[name]");
      field.classList.toggle("is-changed", changed.has(control?.name));
    }
  }
  document.addEventListener("htmx:afterSettle", mark);
})();
