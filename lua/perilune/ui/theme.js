// Before the first paint: the theme chosen last, else the system's.
(function () {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
