"use strict";
// Sorting by a click on a column's heading, filters for long tables, and folding. The page is complete without it.
(function () {
  const SHOWN = 12, MOST_CHOICES = 60;
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
  for (const table of document.querySelectorAll("table:not(.gallery)")) {
    const body = table.tBodies[0];
    const original = Array.from(body.rows);
    let words = "", all = !table.classList.contains("long");
    let button = null;
    const picked = {};
    function refresh() {
      const wanted = Object.entries(picked).filter(function (one) { return one[1]; });
      const filtered = Boolean(words) || wanted.length > 0;
      let left = all || filtered ? Infinity : SHOWN;
      for (const row of body.rows) {
        const match = (!words || row.textContent.toLowerCase().includes(words)) &&
          wanted.every(function (one) { return row.children[one[0]].textContent.trim() === one[1]; });
        row.hidden = !match;
        row.classList.toggle("more", match && left-- <= 0);
      }
      if (button) button.hidden = all || filtered;
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
      const bar = document.createElement("div");
      bar.className = "filters";
      const filter = document.createElement("input");
      filter.type = "search";
      filter.className = "filter";
      filter.placeholder = "Filter rows";
      filter.setAttribute("aria-label", "Filter rows of: " + table.caption.textContent);
      filter.addEventListener("input", function () { words = filter.value.trim().toLowerCase(); refresh(); });
      bar.append(filter);
      table.querySelectorAll("thead th").forEach(function (heading, index) {
        const cells = original.map(function (row) { return row.children[index]; });
        const values = Array.from(new Set(cells.map(function (cell) { return cell.textContent.trim(); })));
        if (cells[0].classList.contains("number") || values.length < 2 || values.length > MOST_CHOICES) return;
        if (values.length > original.length / 2 || values.some(function (value) { return value.length > 60; })) return;
        const label = document.createElement("label"), select = document.createElement("select");
        label.append(heading.textContent.trim(), select);
        for (const value of ["", ...values.filter(Boolean).sort()]) select.add(new Option(value || "all", value));
        select.addEventListener("change", function () { picked[index] = select.value; refresh(); });
        bar.append(label);
      });
      table.closest(".scroll").before(bar);
      button = document.createElement("button");
      button.type = "button";
      button.className = "show-all";
      button.textContent = "Show all " + original.length + " rows";
      button.addEventListener("click", function () { all = true; refresh(); });
      table.closest(".scroll").after(button);
    }
    refresh();
  }
  // What is wider than the page says so; at each change of its width (folding, turning a phone) it is looked at again.
  function tellSideways(box, words) {
    words.hidden = box.scrollWidth <= box.clientWidth + 1;
  }
  for (const box of document.querySelectorAll(".scroll")) {
    const words = document.createElement("p");
    words.className = "sideways";
    words.textContent = "Wider than the page: scroll sideways (or use the arrow keys) ↔";
    words.hidden = true;
    box.before(words);
    if (window.ResizeObserver) new ResizeObserver(function () { tellSideways(box, words); }).observe(box);
    else tellSideways(box, words);
  }
  const folds = Array.from(document.querySelectorAll("details.fold"));
  function openTarget() {
    let place = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    if (!place) return;
    const inner = place.querySelector(":scope > details.fold");
    if (inner) inner.open = true;
    for (let node = place; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    place.scrollIntoView();
  }
  window.addEventListener("hashchange", openTarget);
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", function () { if (link.hash === location.hash) openTarget(); });
  }
  openTarget();
  const toggle = document.querySelector(".fold-all");
  if (toggle && folds.length) {
    toggle.hidden = false;
    toggle.addEventListener("click", function () {
      const open = folds.some(function (one) { return !one.open; });
      for (const one of folds) one.open = open;
      toggle.textContent = open ? "Close all" : "Open all";
    });
  }
  // Folded sections print their figures only; what a reader has opened is printed whole.
  let shut = [];
  window.addEventListener("beforeprint", function () {
    shut = Array.from(document.querySelectorAll("details")).filter(function (fold) {
      return !fold.open && fold.querySelector(".drawing");
    });
    for (const fold of shut) { fold.open = true; fold.classList.add("figures-only"); }
  });
  window.addEventListener("afterprint", function () {
    for (const fold of shut) { fold.open = false; fold.classList.remove("figures-only"); }
  });
})();
