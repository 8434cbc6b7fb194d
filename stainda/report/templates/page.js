"use strict";
// Sorting by a click on a column's heading, and a filter for long tables. The page is complete without it.
(function () {
  const SHOWN = 12;
  function key(row, index) {
    const cell = row.children[index];
    const value = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
    if (value === "" || value === "nan" || value === "–") return null;
    if (value === "-inf") return -Infinity;
    const number = Number(value.replace("−", "-"));
    return Number.isNaN(number) ? value.toLowerCase() : number;
  }
  function compare(a, b) {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const original = Array.from(body.rows);
    let words = "", all = !table.classList.contains("long");
    let button = null;
    function refresh() {
      let left = all || words ? Infinity : SHOWN;
      for (const row of body.rows) {
        const match = !words || row.textContent.toLowerCase().includes(words);
        row.hidden = !match;
        row.classList.toggle("more", match && left-- <= 0);
      }
      if (button) button.hidden = all || Boolean(words);
    }
    table.querySelectorAll("thead th").forEach(function (heading, index) {
      if (original.length && original[0].children[index].classList.contains("number")) heading.classList.add("right");
      heading.querySelector("button").addEventListener("click", function () {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[heading.getAttribute("aria-sort")];
        table.querySelectorAll("thead th").forEach(function (one) { one.setAttribute("aria-sort", "none"); });
        heading.setAttribute("aria-sort", next);
        const rows = original.slice();
        if (next !== "none") {
          const sign = next === "ascending" ? 1 : -1;
          rows.sort(function (a, b) {
            const x = key(a, index), y = key(b, index);
            return x === null || y === null ? compare(x, y) : sign * compare(x, y);
          });
        }
        body.append(...rows);
        refresh();
      });
    });
    if (!all) {
      const filter = document.createElement("input");
      filter.type = "search";
      filter.className = "filter";
      filter.placeholder = "Filter rows";
      filter.setAttribute("aria-label", "Filter rows of: " + table.caption.textContent);
      filter.addEventListener("input", function () { words = filter.value.trim().toLowerCase(); refresh(); });
      table.closest(".scroll").before(filter);
      button = document.createElement("button");
      button.type = "button";
      button.className = "show-all";
      button.textContent = "Show all " + original.length + " rows";
      button.addEventListener("click", function () { all = true; refresh(); });
      table.closest(".scroll").after(button);
    }
    refresh();
  }
  window.addEventListener("beforeprint", function () {
    for (const row of document.querySelectorAll("tr.more")) row.classList.remove("more");
  });
})();
