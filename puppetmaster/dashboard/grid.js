// A cell per gateway, all of them at one look, drawn on a canvas: fifty thousand elements would be too many.

import { el, icon, text } from "./dom.js";
import { arranged, groupsOf } from "./groups.js";
import { WORST, said } from "./rows.js";
import { FAILURES, STATUSES, number, plural } from "./words.js";

/** The lines of a mark beside the colour, in a square of one: not all see the colours. */
const MARKS = {
  error: [[[0.3, 0.3], [0.7, 0.7]], [[0.7, 0.3], [0.3, 0.7]]],
  timeout: [[[0.5, 0.22], [0.5, 0.52], [0.72, 0.66]]],
  unknown: [[[0.34, 0.36], [0.42, 0.26], [0.6, 0.26], [0.66, 0.38], [0.5, 0.54], [0.5, 0.6]], [[0.5, 0.7], [0.5, 0.78]]],
  canceled: [[[0.28, 0.72], [0.72, 0.28]]],
  skipped: [[[0.28, 0.3], [0.48, 0.5], [0.28, 0.7]], [[0.52, 0.3], [0.72, 0.5], [0.52, 0.7]]],
  sent: [[[0.3, 0.28], [0.62, 0.5], [0.3, 0.72]]],
};
/** Cells from this size on have marks; below it what failed is larger than its cell, and what is well is pale. */
const CLEAR = 9;
const FAILED_SIZE = 7;
/** How far from a failure a finger may be to mean it, and how far a mouse. */
const FINGER = 22;
const MOUSE = 3;
const PALE = 0.5;
const LEAST_ROOM = 240;
/** How often those that are being loaded are put into groups. */
const LOADING_MS = 500;
const BELOW = 18;
/** Where the keys lead from the cursor. */
const STEPS = {
  ArrowRight: ({ cursor }) => cursor + 1,
  ArrowLeft: ({ cursor }) => cursor - 1,
  ArrowDown: (grid) => grid.beyond(1),
  ArrowUp: (grid) => grid.beyond(-1),
  PageDown: ({ cursor, groups }) => groups.find(({ start }) => start > cursor)?.start ?? Infinity,
  PageUp: ({ cursor, groups }) => groups.findLast(({ start }) => start < cursor)?.start ?? 0,
  Home: () => 0,
  End: () => Infinity,
};

export class Grid {
  constructor(rows, open) {
    this.rows = rows;
    this.open = open;
    /** Where the waves of the job end; null where it has none. */
    this.waveEnds = null;
    this.cursor = -1;
    this.gatheredAt = -Infinity;
    this.cells = [];
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.marker = el("i", { class: "marker", hidden: true });
    this.headings = el("div");
    this.legend = el("ul", { class: "legend", "aria-label": "What the cells mean" });
    this.caption = el("p", { class: "caption", id: "grid-caption", "aria-live": "polite" });
    this.box = el("div", {
      class: "cells", tabindex: "0", role: "application", "aria-roledescription": "map of gateways",
      "aria-label": "A cell per gateway: arrow keys move, Page Up and Page Down go from group to group, Enter opens",
      "aria-describedby": "grid-caption",
    }, this.canvas, this.headings, this.marker);
    this.element = el("div", { class: "grid" }, this.legend, this.caption, this.box);
    this.canvas.addEventListener("mousemove", (event) => this.point(this.at(event, this.small ? MOUSE : 0)));
    this.canvas.addEventListener("mouseleave", () => this.point(-1));
    this.canvas.addEventListener("pointerdown", ({ pointerType }) => { this.finger = pointerType !== "mouse"; });
    this.canvas.addEventListener("click", (event) => {
      if (this.finger && this.pitch < FINGER) this.point(this.at(event, FINGER));
      this.choose();
    });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.resized = () => this.draw();
    this.observer = new ResizeObserver(this.resized);
    this.observer.observe(this.box);
    addEventListener("resize", this.resized);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => { this.colours = null; this.draw(); };
    this.dark.addEventListener("change", this.redraw);
  }

  /** However the table is sorted, a gateway keeps its place. Who is shown changes by loading and by filters only. */
  gather() {
    const { rows } = this;
    const { status, text: wanted } = rows.filter;
    const who = [rows.first, rows.loaded, wanted, ...status, status.size || wanted ? rows.version : ""].join();
    const loading = rows.first === this.first && rows.loaded < rows.items.length && performance.now() - this.gatheredAt < LOADING_MS;
    if (who === this.who || loading) return;
    Object.assign(this, { first: rows.first, gatheredAt: performance.now() });
    Object.assign(this, { who, shape: null, all: groupsOf(rows.fitting(), rows.first, this.waveEnds) });
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.element.isConnected || !width) {
      this.shown = false;
      return;
    }
    this.gather();
    this.arrange(width);
    this.paint();
    if (this.explain()) {
      // A legend of other height leaves other room.
      this.arrange(width);
      this.paint();
    }
    this.count();
    this.say();
    if (!this.shown && this.rows.loaded === this.rows.items.length) {
      this.shown = true;
      this.panel().scrollIntoView({ block: "nearest" });
    }
  }

  panel() {
    return this.element.closest(".views") ?? this.element;
  }

  /** Give each cell its place: all are in sight when the panel is. */
  arrange(width) {
    const above = this.box.getBoundingClientRect().top - this.panel().getBoundingClientRect().top;
    // Not innerHeight, which changes on a telephone while one scrolls.
    const room = Math.max(LEAST_ROOM, document.documentElement.clientHeight - above - BELOW);
    const shape = [width, room, devicePixelRatio].join();
    if (shape === this.shape && this.colours) return;
    Object.assign(this, { shape, ...arranged(this.all, width, room), drawn: [] });
    this.small = this.pitch < CLEAR;
    this.cells = this.groups.flatMap(({ cells }) => cells);
    this.places = this.groups.flatMap(({ cells, top }) => cells.map((_, at) =>
      [(at % this.columns) * this.pitch, top + Math.floor(at / this.columns) * this.pitch]));
    if (this.cursor >= this.cells.length) this.cursor = -1;
    const style = getComputedStyle(this.element);
    this.colours = Object.fromEntries([...WORST, "mark"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = this.height * devicePixelRatio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${this.height}px`;
    const each = this.cells.reduce((most, cell) => Math.max(most, cell.gateways), 1);
    this.rule = !this.cells.length ? "No request fits the filter." : each > 1 ? `A cell is up to ${each} gateways, and shows the worst of them. Press it to open that one.`
      : "Point at a cell to see whose it is, or press it to open it.";
    this.head();
  }

  head() {
    const several = this.groups.length > 1;
    for (const group of several ? this.groups : []) group.failed = el("span", { class: "fault" });
    this.headings.replaceChildren(...(several ? this.groups : []).map(({ title, cells, failed, top }) => {
      const heading = el("p", { class: "group" }, el("b", {}, title),
        gateways(cells.reduce((sum, cell) => sum + cell.gateways, 0)), failed);
      heading.style.top = `${top}px`;
      return heading;
    }));
  }

  status({ ids }) {
    if (ids.length === 1) return this.rows.get(ids[0]).__request.status;
    const found = new Set(ids.map((id) => this.rows.get(id).__request.status));
    return WORST.find((status) => found.has(status));
  }

  paint() {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    let changed = [];
    const was = this.drawn;
    this.drawn = this.cells.map((cell, index) => {
      const status = this.status(cell);
      if (status !== was[index]) changed.push(index);
      return status;
    });
    // A failure that is one no longer reached beyond its cell.
    if (this.small && changed.some((index) => FAILURES.includes(was[index]))) {
      pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
      changed = this.cells.keys();
    } else if (!changed.length) return;
    for (const index of changed) this.cell(pen, this.drawn[index], ...this.places[index]);
    if (!this.small) return;
    this.drawn.forEach((status, index) => {
      if (!FAILURES.includes(status)) return;
      pen.fillStyle = this.colours[status];
      pen.fillRect(...this.around(index, FAILED_SIZE), FAILED_SIZE, FAILED_SIZE);
    });
  }

  /** Where something of this size is that has a cell in its middle, or nearly so at the edges of the map. */
  around(index, size) {
    const far = Math.floor(Math.max(0, size - this.pitch + 1) / 2);
    const [x, y] = this.places[index];
    return [[x, this.columns * this.pitch], [y, this.height]].map(([at, end]) => Math.max(0, Math.min(at - far, end - size)));
  }

  cell(pen, status, x, y) {
    const { pitch } = this;
    const size = pitch - (this.small ? 1 : 2);
    pen.clearRect(x, y, pitch, pitch);
    pen.fillStyle = this.colours[status];
    pen.globalAlpha = this.small && status === "resolved" ? PALE : 1;
    if (pitch > 12) {
      pen.beginPath();
      pen.roundRect(x, y, size, size, 3);
      pen.fill();
    } else pen.fillRect(x, y, size, size); // thousands of paths would cost a frame
    pen.globalAlpha = 1;
    if (!this.small && status in MARKS) this.mark(pen, MARKS[status], x, y, size);
  }

  mark(pen, lines, x, y, size) {
    pen.strokeStyle = this.colours.mark;
    pen.lineWidth = size > 12 ? 1.8 : 1.2;
    pen.beginPath();
    for (const points of lines) points.forEach(([px, py], n) => pen[n ? "lineTo" : "moveTo"](x + px * size, y + py * size));
    pen.stroke();
  }

  /** The legend of what there is: true when it is another one. */
  explain() {
    const there = new Set(this.drawn);
    const shown = STATUSES.filter((status) => there.has(status));
    this.legend.classList.toggle("small", this.small);
    if (shown.join() === this.legend.dataset.shown) return false;
    this.legend.dataset.shown = shown.join();
    this.legend.replaceChildren(...shown.map((status) =>
      el("li", {}, el("i", { class: `swatch s-${status}` }, status in MARKS ? icon(status) : null), status)));
    return true;
  }

  /** How many failed below each heading. */
  count() {
    for (const { cells, start, failed } of this.groups) {
      if (!failed) continue;
      let count = 0;
      cells.forEach(({ ids }, index) => {
        if (!FAILURES.includes(this.drawn[start + index])) return;
        count += ids.filter((id) => FAILURES.includes(this.rows.get(id).__request.status)).length;
      });
      text(failed, count ? `${number(count)} failed` : "");
    }
  }

  /** The cell at a point; one that failed goes before, so far away from it. */
  at({ offsetX: x, offsetY: y }, reach) {
    const { pitch, columns } = this;
    const group = this.groups.findLast(({ top }) => top <= y);
    const column = Math.floor(x / pitch);
    const within = group ? Math.floor((y - group.top) / pitch) * columns + column : -1;
    let found = group && column < columns && within < group.cells.length ? group.start + within : -1;
    if (FAILURES.includes(this.drawn[found])) return found;
    let least = reach;
    this.drawn.forEach((status, index) => {
      if (!FAILURES.includes(status)) return;
      const [left, top] = this.places[index];
      const far = Math.hypot(left + pitch / 2 - x, top + pitch / 2 - y);
      if (far > least) return;
      least = far;
      found = index;
    });
    return found;
  }

  point(index) {
    this.cursor = index;
    this.say();
  }

  /** Mark the cell of the cursor, and say whose it is. */
  say() {
    const cell = this.cells[this.cursor];
    this.marker.hidden = !cell;
    if (!cell) return text(this.caption, this.rule);
    const size = Math.max(this.pitch - (this.small ? 1 : 2), FAILED_SIZE);
    const [x, y] = this.around(this.cursor, size);
    this.marker.style.width = this.marker.style.height = `${size}px`;
    this.marker.style.left = `${x}px`;
    this.marker.style.top = `${y}px`;
    const request = this.worst(cell);
    const inner = request.__request;
    const beside = cell.gateways > 1 ? `, the worst of ${plural(cell.gateways, "gateway")} from ${cell.name} on`
      : cell.ids.length > 1 ? this.step(request, cell) : "";
    return text(this.caption, `${inner.destination}: ${inner.status}${beside}  ${said(request)}`);
  }

  /** Which of a gateway's requests that is. */
  step({ id, method, resource }, { ids }) {
    const command = `${method.toUpperCase()} ${resource}`;
    return this.rows.stepwise ? `, step ${ids.indexOf(id) + 1} of ${ids.length}, ${command}` : `, ${ids.length} requests`;
  }

  worst(cell) {
    const status = this.status(cell);
    return cell.ids.map((id) => this.rows.get(id)).find((one) => one.__request.status === status);
  }

  choose() {
    const cell = this.cells[this.cursor];
    if (cell) this.open(this.worst(cell).id);
  }

  key(event) {
    if (event.key === "Enter") this.choose();
    else if (this.cells.length && event.key in STEPS) {
      this.point(Math.max(0, Math.min(this.cells.length - 1, STEPS[event.key](this))));
      this.marker.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else return;
    event.preventDefault();
  }

  /** The cell above or below the cursor; at the edge of its group the one in the group beyond. */
  beyond(by) {
    const { cursor, columns, groups } = this;
    if (cursor < 0) return 0;
    const at = groups.findLastIndex(({ start }) => start <= cursor);
    const { start, cells } = groups[at];
    const within = cursor - start + by * columns;
    if (within >= 0 && within < cells.length) return start + within;
    const next = groups[at + by];
    if (!next) return cursor;
    const column = (cursor - start) % columns;
    const lastRow = Math.floor((next.cells.length - 1) / columns) * columns;
    return next.start + Math.min(next.cells.length - 1, by > 0 ? column : lastRow + column);
  }

  end() {
    this.observer.disconnect();
    removeEventListener("resize", this.resized);
    this.dark.removeEventListener("change", this.redraw);
  }
}

/** How many there are; where there is little room it goes without saying of what. */
function gateways(count) {
  return el("span", {}, number(count), el("span", { class: "unit" }, count === 1 ? " gateway" : " gateways"));
}
