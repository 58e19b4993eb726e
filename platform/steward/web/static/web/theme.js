// Runs before the page is painted: the chosen look, if one was chosen. Without a choice the system's preference holds.
(() => {
  "use strict";
  let chosen = null;
  try {
    chosen = localStorage.getItem("steward-theme");
  } catch {
    // Storage may be switched off; the preference of the system decides then.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
