// The list of objects: only the rows in sight are in the page, so that ten thousand objects scroll as ten do.

import { LOOKS, SIGNS, WORDS, look, sureness } from "./marks.js";

const ROW = 46; // pixels, as in style.css
const SVG = "http://www.w3.org/2000/svg";

function swatch(style) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 26 12");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ x1: 1, y1: 6, x2: 25, y2: 6, stroke: style.colour, "stroke-width": 3 })) {
    line.setAttribute(name, value);
  }
  if (style.dash.length) line.setAttribute("stroke-dasharray", style.dash.map((length) => length * 0.8).join(" "));
  svg.append(line);
  return svg;
}

export function legend(element, showsOwn) {
  for (const [name, style] of Object.entries(LOOKS)) {
    if (name === "own" && !showsOwn) continue;
    const item = document.createElement("li");
    item.append(swatch(style), document.createTextNode(style.title));
    element.append(item);
  }
}

export class ObjectList {
  constructor(element, onChoose) {
    this.element = element;
    this.keys = [];
    this.chosen = null;
    this.inner = document.createElement("div");
    this.inner.className = "rows";
    this.inner.setAttribute("role", "presentation");
    element.append(this.inner);
    element.addEventListener("scroll", () => this.render());
    new ResizeObserver(() => this.render()).observe(element);
    element.addEventListener("click", (event) => {
      const row = event.target.closest("[data-key]");
      if (row) onChoose(row.dataset.key);
    });
  }

  show(keys, objects, decisions) {
    Object.assign(this, { keys, objects, decisions });
    this.inner.style.height = `${keys.length * ROW}px`;
    this.render();
  }

  choose(key) {
    this.chosen = key;
    const index = this.keys.indexOf(key);
    if (index >= 0) {
      const top = index * ROW, room = this.element.clientHeight;
      if (top < this.element.scrollTop + ROW) this.element.scrollTop = top - ROW;
      if (top + 2 * ROW > this.element.scrollTop + room) this.element.scrollTop = top + 2 * ROW - room;
    }
    this.render();
  }

  render() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - 4);
    const last = Math.min(this.keys.length, first + Math.ceil(this.element.clientHeight / ROW) + 8);
    const rows = [];
    for (let index = first; index < last; index++) rows.push(this.row(index));
    this.inner.replaceChildren(...rows);
    if (this.keys.includes(this.chosen)) this.element.setAttribute("aria-activedescendant", `object-${this.chosen}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  row(index) {
    const object = this.objects.get(this.keys[index]), made = this.decisions[object.key];
    const row = document.createElement("div");
    row.className = `row${made && !made.stale ? " done" : ""}`;
    row.id = `object-${object.key}`;
    row.dataset.key = object.key;
    row.style.top = `${index * ROW}px`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", object.key === this.chosen);
    row.setAttribute("aria-posinset", index + 1);
    row.setAttribute("aria-setsize", this.keys.length);
    const number = document.createElement("span");
    number.className = "confidence";
    number.textContent = object.confidence === null ? "–" : object.confidence.toFixed(2);
    number.title = `confidence ${sureness(object.confidence)}`;
    const words = document.createElement("span");
    words.className = "words";
    const name = document.createElement("b");
    name.textContent = `${object.class || "no class"}, ${object.stain}`;
    const place = document.createElement("small");
    place.textContent = `${object.block} · section ${object.sections.join(" → ")}`;
    row.title = `${object.source} → ${object.target}`;
    words.append(name, place);
    const state = document.createElement("span");
    state.className = "state";
    if (made) state.textContent = made.stale ? "stale" : `${SIGNS[made.kind]} ${WORDS[made.kind]}`;
    else state.textContent = object.dropped ? "dropped" : object.doubtful ? "ignored" : "";
    row.append(swatch(look(object, made)), number, words, state);
    return row;
  }
}
