// Sections side by side. Each shows its own, unwarped pixels; its view is moved, turned and mirrored so that the same
// place of the block's frame is in the middle of every section.

import { Frame } from "./frames.js";
import * as marks from "./marks.js";
import { tileSource } from "./server.js";

const FURTHEST_IN = 6; // screen pixels per section pixel

class Pane {
  constructor(panes, section) {
    this.panes = panes;
    this.section = section;
    this.opened = false;
    this.element = document.createElement("section");
    this.element.className = "pane";
    this.element.setAttribute("aria-label", `Section ${section.section}, ${section.stain}, slide ${section.slide}`);
    const title = document.createElement("h2");
    title.innerHTML = '<b></b><span class="slide"></span><span class="badge"></span>';
    title.querySelector("b").textContent = `${section.section} · ${section.stain}`;
    title.querySelector(".slide").textContent = section.slide;
    this.badge = title.querySelector(".badge");
    this.stage = document.createElement("div");
    this.stage.className = "stage";
    this.element.append(title, this.stage);
    if (section.grid) this.frame = new Frame(section.grid);
  }

  open() {
    if (!this.frame) {
      this.stage.innerHTML = '<p class="refused"></p>';
      this.stage.firstChild.textContent = `Not shown: ${this.section.refused}`;
      return;
    }
    this.viewer = OpenSeadragon({
      element: this.stage,
      tileSources: tileSource(this.section),
      drawer: "canvas",
      showNavigationControl: false,
      preserveImageSizeOnResize: true,
      animationTime: this.panes.calm ? 0 : 0.4,
      visibilityRatio: 0,
      minZoomImageRatio: 0.05,
      maxZoomPixelRatio: FURTHEST_IN * 2,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false, flickEnabled: false },
      degrees: this.frame.degrees,
      placeholderFillStyle: "#ffffff",
    });
    this.viewer.viewport.setFlip(this.frame.flipped);
    this.layer = document.createElement("canvas");
    this.layer.className = "layer";
    this.layer.setAttribute("aria-hidden", "true");
    this.stage.append(this.layer);
    const canvas = this.viewer.canvas;
    canvas.setAttribute("aria-label", `View of ${this.section.stain}; drag to pan, scroll to zoom`);
    this.viewer.addHandler("canvas-key", (event) => (event.preventDefaultAction = true));
    for (const name of ["canvas-press", "canvas-scroll", "canvas-pinch"]) {
      this.viewer.addHandler(name, () => (this.panes.lead = this));
    }
    this.viewer.addHandler("viewport-change", () => this.panes.lead === this && this.panes.follow());
    this.viewer.addHandler("update-viewport", () => this.draw());
    this.viewer.addHandler("resize", () => this.draw());
    this.viewer.addHandler("open", () => {
      this.opened = true;
      if (this.panes.view) this.show(...this.panes.view, true);
    });
    this.viewer.addHandler("canvas-drag", (event) => this.gesture("drag", event));
    this.viewer.addHandler("canvas-drag-end", (event) => this.gesture("end", event));
    this.viewer.addHandler("canvas-click", (event) => event.quick && this.gesture("click", event));
    this.viewer.addHandler("canvas-double-click", (event) => this.gesture("double", event));
  }

  gesture(kind, event) {
    const box = this.stage.getBoundingClientRect();
    const pointer = event.originalEvent;
    const at = this.toSection(pointer.clientX - box.left, pointer.clientY - box.top);
    if (this.panes.onGesture(kind, this, at)) event.preventDefaultAction = true;
  }

  get size() {
    return [this.stage.clientWidth, this.stage.clientHeight];
  }

  // screen pixels per section pixel
  get scale() {
    return (this.viewer.viewport.getZoom(true) * this.size[0]) / this.section.size[0];
  }

  get centre() {
    const centre = this.viewer.viewport.getCenter(true);
    return [centre.x * this.section.size[0], centre.y * this.section.size[0]];
  }

  // a, b, c, d, e, f of the map from section pixels to the screen, as canvas has it
  get matrix() {
    const [width, height] = this.size, [cx, cy] = this.centre, s = this.scale;
    const angle = (this.viewer.viewport.getRotation(true) * Math.PI) / 180;
    const sign = this.frame.flipped ? -1 : 1;
    const a = sign * s * Math.cos(angle), c = -sign * s * Math.sin(angle);
    const b = s * Math.sin(angle), d = s * Math.cos(angle);
    return [a, b, c, d, width / 2 - a * cx - c * cy, height / 2 - b * cx - d * cy];
  }

  toSection(x, y) {
    const [a, b, c, d, e, f] = this.matrix;
    const det = a * d - b * c;
    return [(d * (x - e) - c * (y - f)) / det, (a * (y - f) - b * (x - e)) / det];
  }

  // Brings the frame's point (x, y) into the middle, at `zoom` screen pixels per frame pixel.
  show(x, y, zoom, immediately) {
    if (!this.opened) return;
    const [sx, sy] = this.frame.toSection(x, y);
    const [width] = this.section.size;
    const viewport = this.viewer.viewport;
    viewport.zoomTo((zoom * this.frame.scale * width) / this.size[0], null, immediately);
    viewport.panTo(new OpenSeadragon.Point(sx / width, sy / width), immediately);
    if (immediately) this.viewer.forceRedraw();
  }

  draw() {
    if (!this.opened) return;
    const [width, height] = this.size, density = window.devicePixelRatio || 1;
    if (this.layer.width !== Math.round(width * density) || this.layer.height !== Math.round(height * density)) {
      this.layer.width = Math.round(width * density);
      this.layer.height = Math.round(height * density);
    }
    const context = this.layer.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.layer.width, this.layer.height);
    context.setTransform(...this.matrix.map((value) => value * density));
    const corners = [this.toSection(0, 0), this.toSection(width, 0), this.toSection(0, height), this.toSection(width, height)];
    const view = [0, 1].map((k) => Math.min(...corners.map((one) => one[k])))
      .concat([0, 1].map((k) => Math.max(...corners.map((one) => one[k]))));
    const inView = (box) => box[0] <= view[2] && box[2] >= view[0] && box[1] <= view[3] && box[3] >= view[1];
    this.panes.paint(this, context, this.scale, inView);
  }

  close() {
    this.viewer?.destroy();
  }
}

export class Panes {
  constructor(element) {
    this.element = element;
    this.panes = [];
    this.view = null; // x, y of the frame, and screen pixels per frame pixel
    this.lead = null;
    this.calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.paint = () => {};
    this.onGesture = () => false;
    new ResizeObserver(() => this.arrange()).observe(element);
  }

  // Shows these sections; the ones already shown stay.
  set(sections) {
    const names = sections.map((one) => one.number).join();
    if (names === this.panes.map((one) => one.section.number).join()) return;
    for (const pane of this.panes) pane.close();
    this.panes = sections.map((section) => new Pane(this, section));
    this.lead = null;
    this.element.replaceChildren(...this.panes.map((pane) => pane.element));
    this.arrange();
    for (const pane of this.panes) pane.open();
  }

  of(slide) {
    return this.panes.find((pane) => pane.section.slide === slide);
  }

  // As many columns as leave each section most room.
  arrange() {
    const n = this.panes.length, width = this.element.clientWidth, height = this.element.clientHeight;
    if (window.matchMedia("(max-width: 700px)").matches) { // a phone: one above the other, the page scrolls
      this.element.style.gridTemplateColumns = "minmax(0, 1fr)";
      return;
    }
    let best = [0, 1];
    for (let columns = 1; columns <= n; columns++) {
      const rows = Math.ceil(n / columns);
      const room = Math.min(width / columns, (height / rows - 30) * 1.25);
      if (room > best[0] + 1) best = [room, columns];
    }
    this.element.style.gridTemplateColumns = `repeat(${best[1]}, minmax(0, 1fr))`;
  }

  follow() {
    const lead = this.lead;
    if (!lead?.opened) return;
    this.view = [...lead.frame.toFrame(...lead.centre), lead.scale / lead.frame.scale];
    for (const pane of this.panes) if (pane !== lead && pane.frame) pane.show(...this.view, true);
  }

  // Moves all views to a place of the frame; `slide` goes there smoothly, the others follow.
  go(x, y, zoom, slide) {
    this.view = [x, y, zoom];
    const lead = this.of(slide) ?? this.panes.find((pane) => pane.frame);
    this.lead = lead;
    if (lead?.opened) lead.show(x, y, zoom, this.calm);
  }

  zoom(factor) {
    if (this.view) this.go(this.view[0], this.view[1], this.view[2] * factor, this.lead?.section.slide);
  }

  move(right, down) {
    if (!this.view) return;
    const [x, y, zoom] = this.view;
    this.go(x + right / zoom, y + down / zoom, zoom, this.lead?.section.slide);
  }

  // Zooms so that a box of section pixels fills a good part of its pane.
  look(slide, box) {
    const pane = this.of(slide);
    if (!pane?.frame) return;
    const [x, y] = pane.frame.toFrame((box[0] + box[2]) / 2, (box[1] + box[3]) / 2);
    const extent = Math.max(box[2] - box[0], box[3] - box[1], 20);
    const scale = Math.min((0.45 * Math.min(...pane.size)) / extent, FURTHEST_IN);
    this.go(x, y, scale / pane.frame.scale, slide);
  }

  draw() {
    for (const pane of this.panes) pane.draw();
  }
}
