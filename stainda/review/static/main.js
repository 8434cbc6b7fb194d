// The page: which object is chosen, what is decided about it, and the keys.

import { ObjectList, legend } from "./list.js";
import * as marks from "./marks.js";
import { Panes } from "./panes.js";
import * as server from "./server.js";

const find = (id) => document.getElementById(id);
const objects = new Map();
const made = []; // keys of decisions of this window, the latest last
const panes = new Panes(find("panes"));
const PHONE = window.matchMedia("(max-width: 700px)");
const list = new ObjectList(find("list"), (key) => {
  if (PHONE.matches) document.querySelector("main").scrollIntoView(); // the list stands below the sections
  return choose(key);
});
let decisions = {}, keys = [], chosen = null, block = null, mode = null, busy = false, outlinesShown = true;

// what is shown ---------------------------------------------------------------------------------------------------

function say(text, fault = false) {
  find("said").textContent = text;
  find("said").classList.toggle("fault", fault);
}

function option(select, values, any) {
  select.replaceChildren(...(values.length > 1 ? [new Option(any, "")] : []), ...values.map((value) => new Option(value || "no class", value)));
  select.disabled = values.length < 2;
}

const STATUS = {
  all: (object) => !object.dropped || decisions[object.key],
  open: (object) => !object.dropped && open(object.key),
  accept: (object) => decisions[object.key]?.kind === "accept",
  reject: (object) => decisions[object.key]?.kind === "reject",
  unsure: (object) => decisions[object.key]?.kind === "unsure",
  changed: (object) => ["nudge", "redraw"].includes(decisions[object.key]?.kind),
  stale: (object) => Boolean(decisions[object.key]?.stale),
  doubtful: (object) => object.doubtful,
  dropped: (object) => object.dropped,
};

const open = (key) => !decisions[key] || Boolean(decisions[key].stale);

function filter() {
  const value = (id) => find(id).value;
  const passes = [...objects.values()].filter(
    (one) =>
      (!value("by-block") || one.block === value("by-block")) &&
      (!value("by-stain") || one.stain === value("by-stain")) &&
      (!value("by-class") || one.class === value("by-class")) &&
      (!find("by-training").checked || one.trains),
  );
  keys = passes.filter(STATUS[value("by-status")]).map((one) => one.key);
  const propagated = passes.filter(STATUS.all);
  const done = propagated.filter((one) => !open(one.key)).length;
  find("count").textContent = `${done} of ${propagated.length} reviewed`;
  find("progress").max = propagated.length || 1;
  find("progress").value = done;
  find("order").textContent = keys.length
    ? `${keys.length} ${keys.length === 1 ? "object" : "objects"}, least confident first`
    : "No object passes these filters";
  list.show(keys, objects, decisions);
}

async function choose(key, look = true) {
  if (mode) leave();
  chosen = key;
  list.choose(key);
  const object = objects.get(key);
  for (const button of document.querySelectorAll("#actions button, [data-act=centre]")) button.disabled = !object;
  if (!object) {
    find("object").textContent = "";
    panes.draw();
    return;
  }
  describe();
  if (block?.block !== object.block) {
    const loaded = await server.block(object.block).catch((error) => say(error.message, true));
    if (!loaded || chosen !== key) return;
    block = loaded;
    block.shapes = {};
    for (const [name, drawn] of Object.entries(block.outlines)) {
      block.shapes[name] = { propagated: marks.outline(drawn.propagated), source: marks.outline(drawn.source) };
    }
    for (const section of block.sections) section.shapes = section.own.map(marks.outline);
  }
  panes.set(sideBySide(object));
  for (const pane of panes.panes) {
    const role = pane.section.slide === object.target ? "target" : pane.section.slide === object.source ? "source" : "";
    pane.element.classList.toggle("target", role === "target");
    pane.element.classList.toggle("source", role === "source");
    pane.badge.textContent = { target: "propagated to", source: "drawn here" }[role] ?? "";
  }
  if (look) centre();
  panes.draw();
}

function describe() {
  const object = objects.get(chosen), decision = decisions[chosen];
  const words = document.createElement("b");
  words.textContent = `${object.class || "no class"}, propagated from ${object.from} to ${object.stain}`;
  const more = document.createElement("small");
  const parts = [`${object.source} → ${object.target}`, object.confidence === null ? "confidence not known" : `confidence ${object.confidence.toFixed(2)}`];
  if (object.reason && !object.dropped && !decision) parts.push(object.reason);
  if (object.dropped) parts.push(`dropped: ${object.reason}`);
  if (object.doubtful && !decision) parts.push("ignored in training unless accepted");
  if (!object.trains) parts.push("not used in training");
  if (decision?.stale) parts.push(`decision not applied: ${decision.stale}`);
  else if (decision) parts.push(`${marks.WORDS[decision.kind]} by ${decision.reviewer}, ${decision.time.slice(0, 10)}`);
  more.textContent = parts.join(" · ");
  find("object").replaceChildren(words, more);
}

// Source and target, then the sections nearest to the target, in the order of the cut.
function sideBySide(object) {
  const target = block.sections.find((one) => one.slide === object.target);
  const rank = (one) => (one.slide === object.target ? -2 : one.slide === object.source ? -1 : Math.abs(one.section - target.section));
  const near = [...block.sections].sort((one, other) => rank(one) - rank(other)).slice(0, Number(find("side-by-side").value));
  return block.sections.filter((one) => near.includes(one));
}

function standing(key) {
  const decision = decisions[key];
  if (decision && !decision.stale) return (decision.shape ??= marks.outline(decision.outline));
  return block.shapes[key]?.propagated;
}

function centre() {
  const object = objects.get(chosen), shape = object && standing(chosen);
  if (shape) panes.look(object.target, shape.box);
}

panes.paint = (pane, context, scale, inView) => {
  if (!block) return;
  const slide = pane.section.slide, object = objects.get(chosen);
  const draw = (shape, style, wide) => shape && inView(shape.box) && marks.stroke(context, shape, style, scale, wide);
  if (outlinesShown) {
    for (const shape of pane.section.shapes) draw(shape, pane.section.isSource ? marks.LOOKS.source : marks.LOOKS.own);
    for (const key of Object.keys(block.shapes)) {
      const one = objects.get(key);
      if (one.target !== slide || key === chosen || (one.dropped && !decisions[key])) continue;
      const same = object && one.id === object.id && one.source === object.source;
      draw(standing(key), marks.look(one, decisions[key]), same && one.class === object.class);
    }
  }
  if (!object) return;
  if (slide === object.source && outlinesShown) draw(block.shapes[chosen].source, marks.LOOKS.source, true);
  if (slide !== object.target) return;
  if (mode) mode.paint(context, scale);
  else if (outlinesShown) draw(standing(chosen), marks.look(object, decisions[chosen]), true);
};

// deciding --------------------------------------------------------------------------------------------------------

async function decide(decision, more = {}, key = chosen) {
  if (!key || busy) return;
  busy = true;
  try {
    const told = await server.decide({ key, decision, expected: decisions[key]?.version ?? "", ...more });
    if (told.decision) decisions[key] = told.decision;
    else delete decisions[key];
    busy = false;
    const word = decision === "undo" ? "Taken back" : marks.WORDS[decision];
    say(`${word[0].toUpperCase()}${word.slice(1)}, saved`);
    if (decision === "undo") {
      filter();
      await choose(key);
    } else {
      made.push(key);
      const from = keys.indexOf(key);
      const later = [...keys.slice(from + 1), ...keys.slice(0, Math.max(from, 0))];
      const next = later.find((one) => open(one));
      filter();
      if (!next) say("Saved. Every object of this list is reviewed");
      await choose(next ?? key);
    }
  } catch (error) {
    busy = false;
    say(error.message, true);
    if (error.status === 409) await refresh();
  }
}

async function undo() {
  const key = made.pop() ?? (decisions[chosen] ? chosen : null);
  if (!key) say("There is nothing to undo");
  else await decide("undo", {}, key);
}

async function refresh() {
  const found = await server.decisions().catch(() => null);
  if (!found) return;
  decisions = found;
  filter();
  if (chosen) describe();
  panes.draw();
}

function step(by) {
  const at = keys.indexOf(chosen);
  const next = at < 0 ? keys[0] : keys[Math.min(Math.max(at + by, 0), keys.length - 1)];
  if (next && next !== chosen) {
    say("");
    choose(next);
  }
}

// nudging and drawing ---------------------------------------------------------------------------------------------

function enter(next, words) {
  mode = next;
  outlinesShown = true;
  find("mode").firstElementChild.textContent = words;
  find("mode").hidden = false;
  find("actions").hidden = true;
  document.body.classList.add("drawing");
  say("");
  panes.draw();
}

function leave() {
  mode = null;
  find("mode").hidden = true;
  find("actions").hidden = false;
  document.body.classList.remove("drawing");
  panes.draw();
}

const targetPane = () => panes.of(objects.get(chosen).target);

// From a step on the screen to one in section pixels: sections may be turned or mirrored.
function onSection(pane, right, down) {
  const [ax, ay] = pane.toSection(0, 0), [bx, by] = pane.toSection(right, down);
  return [bx - ax, by - ay];
}

function nudge() {
  const shape = standing(chosen), pane = targetPane();
  if (!shape || !pane?.opened) return;
  let dx = 0, dy = 0, from = null;
  enter(
    {
      paint: (context, scale) => {
        context.save();
        context.translate(dx, dy);
        marks.stroke(context, shape, marks.LOOKS.decided, scale, true);
        context.restore();
      },
      arrow: (right, down, far) => {
        const [x, y] = onSection(pane, right * (far ? 15 : 2), down * (far ? 15 : 2));
        dx += x;
        dy += y;
      },
      gesture: (kind, at) => {
        if (kind === "drag") {
          if (from) [dx, dy] = [dx + at[0] - from[0], dy + at[1] - from[1]];
          from = at;
        } else from = null;
      },
      finish: () => (dx || dy ? decide("nudge", { dx, dy }) : leave()),
    },
    "Move the outline with the arrow keys (Shift: further) or drag it.",
  );
}

function redraw() {
  const pane = targetPane();
  if (!pane?.opened) return;
  const points = [];
  let cursor = pane.toSection(pane.size[0] / 2, pane.size[1] / 2), byKey = false;
  const add = (at) => {
    const last = points.at(-1), least = 2.5 / pane.scale;
    if (!last || Math.hypot(at[0] - last[0], at[1] - last[1]) >= least) points.push(at);
  };
  enter(
    {
      paint: (context, scale) => {
        const propagated = standing(chosen);
        if (propagated) {
          context.globalAlpha = 0.45;
          marks.stroke(context, propagated, marks.LOOKS.refused, scale);
          context.globalAlpha = 1;
        }
        const ring = points.flat();
        if (ring.length) marks.stroke(context, marks.outline({ kind: "area", rings: [ring] }), marks.LOOKS.decided, scale, true);
        context.fillStyle = marks.LOOKS.decided.colour;
        for (const [x, y] of points.length > 60 ? points.slice(-1) : points) {
          context.beginPath();
          context.arc(x, y, 3.5 / scale, 0, 2 * Math.PI);
          context.fill();
        }
        if (!byKey) return;
        const arm = 11 / scale, path = new Path2D();
        path.moveTo(cursor[0] - arm, cursor[1]);
        path.lineTo(cursor[0] + arm, cursor[1]);
        path.moveTo(cursor[0], cursor[1] - arm);
        path.lineTo(cursor[0], cursor[1] + arm);
        marks.stroke(context, { path, points: [] }, marks.LOOKS.source, scale);
      },
      arrow: (right, down, far) => {
        byKey = true;
        const [x, y] = onSection(pane, right * (far ? 30 : 5), down * (far ? 30 : 5));
        cursor = [cursor[0] + x, cursor[1] + y];
      },
      space: () => {
        byKey = true;
        add(cursor);
      },
      back: () => points.pop(),
      gesture: (kind, at) => {
        if (kind === "click" || kind === "drag") add(at);
        if (kind === "double") mode?.finish();
      },
      finish: () => (points.length > 2 ? decide("redraw", { ring: points }) : say("An outline has at least 3 points", true)),
    },
    "Draw around the object: click points or drag a line; or arrow keys and Space. Backspace removes a point.",
  );
}

panes.onGesture = (kind, pane, at) => {
  if (!mode || pane.section.slide !== objects.get(chosen).target) return false;
  mode.gesture(kind, at);
  panes.draw();
  return true;
};

// keys and buttons ------------------------------------------------------------------------------------------------

const ACTS = {
  next: () => step(1),
  previous: () => step(-1),
  accept: () => decide("accept"),
  reject: () => decide("reject"),
  unsure: () => decide("unsure"),
  nudge,
  redraw,
  undo,
  outlines: () => {
    outlinesShown = !outlinesShown;
    document.querySelector("[data-act=outlines]").setAttribute("aria-pressed", outlinesShown);
    panes.draw();
  },
  in: () => panes.zoom(1.4),
  out: () => panes.zoom(1 / 1.4),
  centre,
  finish: () => mode?.finish(),
  cancel: () => leave(),
};
const KEYS = { j: "next", k: "previous", a: "accept", r: "reject", i: "unsure", n: "nudge", d: "redraw", u: "undo",
  o: "outlines", "+": "in", "=": "in", "-": "out", 0: "centre" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("help-box").open) return;
  const at = event.target, inList = at === list.element;
  if (at.closest("select, input")) return;
  let known = true;
  if (mode && ARROWS[event.key]) mode.arrow(...ARROWS[event.key], event.shiftKey);
  else if (mode && event.key === "Enter" && !at.closest("button")) mode.finish();
  else if (mode && event.key === "Escape") leave();
  else if (mode && event.key === " " && mode.space && !at.closest("button")) mode.space();
  else if (mode && event.key === "Backspace" && mode.back) mode.back();
  else if (mode && !["+", "=", "-", "0"].includes(event.key)) known = false;
  else if (event.key === "?") find("help").click();
  else if (inList && event.key === "ArrowDown") step(1);
  else if (inList && event.key === "ArrowUp") step(-1);
  else if (ARROWS[event.key] && !inList) panes.move(...ARROWS[event.key].map((one) => one * 60));
  else if (KEYS[event.key.toLowerCase()]) ACTS[KEYS[event.key.toLowerCase()]]();
  else known = false;
  if (!known) return;
  event.preventDefault();
  if (mode) panes.draw();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button || button.disabled) return;
  ACTS[button.dataset.act]();
});
find("help").addEventListener("click", () => find("help-box").showModal());
find("filters").addEventListener("submit", (event) => event.preventDefault());
find("filters").addEventListener("change", () => {
  filter();
  if (!keys.includes(chosen)) choose(keys[0] ?? null);
  else list.choose(chosen);
});
find("side-by-side").addEventListener("change", () => chosen && choose(chosen));
document.addEventListener("visibilitychange", () => document.hidden || refresh());
window.addEventListener("focus", refresh);

// the beginning ---------------------------------------------------------------------------------------------------

try {
  const told = await server.overview();
  for (const one of told.objects) objects.set(one.key, one);
  decisions = told.decisions;
  find("run").textContent = told.run;
  find("reviewer").textContent = told.reviewer;
  document.title = `Review of ${told.run} · stainda`;
  const unique = (name) => [...new Set(told.objects.map((one) => one[name]))].sort();
  option(find("by-block"), told.blocks, "all blocks");
  option(find("by-stain"), unique("stain"), "all stains");
  option(find("by-class"), unique("class"), "all classes");
  const some = told.objects.some((one) => one.trains), all = told.objects.every((one) => one.trains);
  find("by-training").checked = some && !all;
  find("by-training").disabled = !some || all;
  if (PHONE.matches) find("side-by-side").value = "2"; // source and target
  legend(find("legend"), told.showsOwn);
  find("truth").textContent = told.showsOwn
    ? "The targets' own annotations are shown. The study is scored against them: a review that has seen them follows the truth, and its labels are no longer independent of the test."
    : "Annotations that target sections have of their own are not shown: the study is scored against them, and a review with the truth in sight would follow it.";
  filter();
  await choose(keys.find((key) => open(key)) ?? keys[0] ?? null);
  list.element.focus({ preventScroll: true });
} catch (error) {
  say(error.message, true);
}
