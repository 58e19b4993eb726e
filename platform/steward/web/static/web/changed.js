// The form of a new fine-tune. Marks the settings that differ from those of the run that is being cloned, which the
// preview names; and lets the name and the workflow follow the dataset version until somebody chooses others.
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

  const version = document.getElementById("version");
  let before = version?.selectedOptions[0]?.dataset;
  // The form hears of it afterwards, as the event rises, and asks for a preview of what then stands here.
  version?.addEventListener("input", () => {
    const next = version.selectedOptions[0].dataset;
    for (const part of ["name", "workflow"]) {
      const control = document.getElementById(part);
      if (control.value === before[part]) control.value = next[part];
    }
    before = next;
  });
})();
