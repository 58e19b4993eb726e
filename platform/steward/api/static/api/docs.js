// Swagger UI knows the dark look by a class on the root element.
(() => {
  "use strict";
  const root = document.documentElement;
  const darkPreferred = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    root.classList.toggle("dark-mode", root.dataset.theme ? root.dataset.theme === "dark" : darkPreferred.matches);
  };
  paint();
  darkPreferred.addEventListener("change", paint);
})();
