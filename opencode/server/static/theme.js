// Before anything is drawn: the theme that was chosen here; without a choice the system's.
(() => {
  const chosen = localStorage.getItem("opencode.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
