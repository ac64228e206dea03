// A cell per gateway, drawn on a canvas: fifty thousand elements would be too many.

import { el, text } from "./dom.js";
import { WORST, said } from "./rows.js";

const MARKED = new Set(["error", "timeout", "unknown", "canceled", "skipped", "sent"]);

export class Grid {
  constructor(rows, open) {
    this.rows = rows;
    this.open = open;
    this.cursor = -1;
    this.cells = [];
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.marker = el("i", { class: "marker", hidden: true });
    this.caption = el("p", { class: "caption", id: "grid-caption", "aria-live": "polite" });
    this.box = el("div", {
      class: "cells", tabindex: "0", role: "application", "aria-roledescription": "map of gateways",
      "aria-label": "A cell per gateway: arrow keys move, Enter opens", "aria-describedby": "grid-caption",
    }, this.canvas, this.marker);
    this.element = el("div", { class: "grid" }, this.caption, this.box);
    this.canvas.addEventListener("mousemove", (event) => this.point(this.at(event)));
    this.canvas.addEventListener("mouseleave", () => this.point(-1));
    this.canvas.addEventListener("click", (event) => this.choose(this.at(event)));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.box);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => { this.colours = null; this.draw(); };
    this.dark.addEventListener("change", this.redraw);
  }

  /** By id, however the table is sorted: a gateway keeps its place. */
  gather() {
    if (this.version === this.rows.version) return;
    this.version = this.rows.version;
    const byName = new Map();
    for (const request of this.rows.fitting()) {
      const { destination } = request.__request;
      const cell = byName.get(destination);
      if (cell) cell.push(request);
      else byName.set(destination, [request]);
    }
    this.cells = [...byName.values()];
    if (this.cursor >= this.cells.length) this.cursor = -1;
  }

  status(cell) {
    if (cell.length === 1) return cell[0].__request.status;
    return WORST.find((status) => cell.some((request) => request.__request.status === status));
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.element.isConnected || !width) return;
    this.gather();
    const count = this.cells.length;
    const pitch = count <= 400 ? 22 : count <= 3000 ? 16 : count <= 12_000 ? 10 : 7;
    const columns = Math.max(1, Math.floor(width / pitch));
    const shape = [pitch, columns, count, devicePixelRatio].join();
    if (shape !== this.shape || !this.colours) {
      Object.assign(this, { shape, pitch, columns, drawn: [] });
      const style = getComputedStyle(this.element);
      this.colours = Object.fromEntries([...WORST, "mark"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
      const height = Math.ceil(count / columns) * pitch;
      this.canvas.width = columns * pitch * devicePixelRatio;
      this.canvas.height = height * devicePixelRatio;
      this.canvas.style.width = `${columns * pitch}px`;
      this.canvas.style.height = `${height}px`;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    this.cells.forEach((cell, index) => {
      const status = this.status(cell);
      if (this.drawn[index] === status) return;
      this.drawn[index] = status;
      this.cell(pen, status, index);
    });
    this.say();
  }

  cell(pen, status, index) {
    const { pitch } = this;
    const x = (index % this.columns) * pitch;
    const y = Math.floor(index / this.columns) * pitch;
    const size = pitch - (pitch > 8 ? 2 : 1);
    pen.clearRect(x, y, pitch, pitch);
    pen.fillStyle = this.colours[status];
    if (pitch > 12) {
      pen.beginPath();
      pen.roundRect(x, y, size, size, 3);
      pen.fill();
    } else pen.fillRect(x, y, size, size); // thousands of paths would cost a frame
    if (pitch > 8 && MARKED.has(status)) this.mark(pen, status, x, y, size);
  }

  /** A mark per status beside its colour: not all see the colours. */
  mark(pen, status, x, y, size) {
    const line = (...points) => {
      points.forEach(([px, py], n) => pen[n ? "lineTo" : "moveTo"](x + px * size, y + py * size));
    };
    pen.strokeStyle = this.colours.mark;
    pen.lineWidth = size > 12 ? 1.8 : 1.2;
    pen.beginPath();
    if (status === "error") { line([0.3, 0.3], [0.7, 0.7]); line([0.7, 0.3], [0.3, 0.7]); }
    if (status === "timeout") line([0.5, 0.22], [0.5, 0.52], [0.72, 0.66]);
    if (status === "unknown") {
      line([0.34, 0.36], [0.42, 0.26], [0.6, 0.26], [0.66, 0.38], [0.5, 0.54], [0.5, 0.6]);
      line([0.5, 0.7], [0.5, 0.78]);
    }
    if (status === "canceled") line([0.28, 0.72], [0.72, 0.28]);
    if (status === "skipped") { line([0.28, 0.3], [0.48, 0.5], [0.28, 0.7]); line([0.52, 0.3], [0.72, 0.5], [0.52, 0.7]); }
    if (status === "sent") line([0.3, 0.28], [0.62, 0.5], [0.3, 0.72]);
    pen.stroke();
  }

  at(event) {
    const column = Math.floor(event.offsetX / this.pitch);
    const index = Math.floor(event.offsetY / this.pitch) * this.columns + column;
    return column < this.columns && index < this.cells.length ? index : -1;
  }

  point(index) {
    this.cursor = index;
    this.say();
  }

  /** Mark the cell of the cursor, and say whose it is. */
  say() {
    const cell = this.cells[this.cursor];
    this.marker.hidden = !cell;
    if (!cell) return text(this.caption, "A cell per gateway: point at one to see whose it is.");
    const { pitch, columns, cursor } = this;
    this.marker.style.width = this.marker.style.height = `${pitch - (pitch > 8 ? 2 : 1)}px`;
    this.marker.style.left = `${(cursor % columns) * pitch}px`;
    this.marker.style.top = `${Math.floor(cursor / columns) * pitch}px`;
    const request = this.worst(cell);
    const inner = request.__request;
    const more = cell.length > 1 ? `, ${cell.length} requests` : "";
    return text(this.caption, `${inner.destination}: ${inner.status}${more}  ${said(request)}`);
  }

  worst(cell) {
    const status = this.status(cell);
    return cell.find((one) => one.__request.status === status);
  }

  choose(index) {
    const cell = this.cells[index];
    if (cell) this.open(this.worst(cell).id);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.pitch) - 1) * this.columns;
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns,
      PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
    };
    if (event.key === "Enter") this.choose(this.cursor);
    else if (event.key in steps) {
      this.cursor = Math.max(0, Math.min(this.cells.length - 1, this.cursor + steps[event.key]));
      this.say();
      this.marker.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else return;
    event.preventDefault();
  }

  end() {
    this.observer.disconnect();
    this.dark.removeEventListener("change", this.redraw);
  }
}
