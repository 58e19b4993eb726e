// The console's few movements: light or dark, the menu on small screens, the search key. Everything else works without.
(() => {
  "use strict";
  const root = document.documentElement;
  const darkPreferred = matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : darkPreferred.matches;
  }

  // Unfold's styles know the dark look by a class, the house's tokens by data-theme or the system's preference.
  function paint() {
    root.classList.toggle("dark", isDark());
  }

  function switchLook() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("steward-theme", root.dataset.theme);
    } catch {
      // The choice then lasts for this page only.
    }
    paint();
  }

  function showMenu(isOpen) {
    root.classList.toggle("c-menu-open", isOpen);
    document.querySelector("[data-menu]")?.setAttribute("aria-expanded", String(isOpen));
  }

  paint();
  darkPreferred.addEventListener("change", paint);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-switch-look]")) switchLook();
    if (event.target.closest("[data-menu]")) showMenu(!root.classList.contains("c-menu-open"));
    else if (!event.target.closest("#menu")) showMenu(false);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") showMenu(false);
    const isTyping = event.target.closest?.("input, textarea, select");
    const search = document.getElementById("searchbar");
    if (event.key === "/" && search && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    }
  });
})();
