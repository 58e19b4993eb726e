// The form of a new fine-tune. Marks the settings that differ from those of the run that is being cloned, which the
// preview names; and lets the name follow the dataset version until somebody types another.
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

  const name = document.getElementById("name");
  const version = document.getElementById("version");
  let suggested = version?.selectedOptions[0]?.dataset.name;
  version?.addEventListener("input", () => {
    const next = version.selectedOptions[0].dataset.name;
    if (name.value === suggested) name.value = next;
    suggested = next;
  });
})();
