// A table of any number of requests of which only the visible rows are in the document.

import { now } from "./api.js";
import { duration, el, icon, outcome, text } from "./dom.js";
import { took } from "./rows.js";

const COLUMNS = [
  ["destination", "Destination"],
  ["status", "Status"],
  ["why", "Why"],
  ["attempts", "Attempts"],
  ["duration", "Duration"],
  ["result", "Result"],
];
const SPARE = 4;

export class Table {
  constructor(rows, open) {
    this.rows = rows;
    this.open = open;
    this.cursor = 0;
    this.pool = [];
    this.heads = COLUMNS.map(([name, label]) =>
      el("div", { role: "columnheader", class: `c-${name}`, "aria-sort": "none" },
        el("button", { type: "button", class: "sort", onclick: () => this.sortBy(name) }, label)));
    this.header = el("div", { role: "row", class: "row header", "aria-rowindex": "1" }, ...this.heads);
    this.space = el("div", { class: "space", role: "rowgroup" });
    this.empty = el("p", { class: "empty", hidden: true }, "No request fits the filter.");
    this.top = el("div", { class: "head", role: "rowgroup" }, this.header);
    this.scroller = el("div", {
      class: "scroller", role: "grid", tabindex: "0", "aria-label": "Requests, Enter opens one", "aria-readonly": "true",
    }, this.top, this.space, this.empty);
    this.element = el("div", { class: "table" }, this.scroller);
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("focus", () => this.draw());
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.scroller);
  }

  sortBy(name) {
    const { sort } = this.rows;
    if (sort.by !== name) Object.assign(sort, { by: name, down: false });
    else if (!sort.down) sort.down = true;
    else sort.by = null;
    this.heads.forEach((head, index) => {
      const mine = COLUMNS[index][0] === sort.by;
      head.setAttribute("aria-sort", mine ? (sort.down ? "descending" : "ascending") : "none");
    });
    this.rows.changed();
    this.draw();
  }

  /** How much of the rows is seen: the header stays above them. */
  get visible() {
    return this.scroller.clientHeight - this.top.offsetHeight;
  }

  key(event) {
    if (event.target !== this.scroller) return;
    const page = Math.max(1, Math.floor(this.visible / this.height) - 1);
    const last = this.rows.shown().length - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      this.cursor = Math.max(0, Math.min(last, this.cursor + steps[event.key]));
      this.reveal();
    } else if (event.key === "Enter" && this.rows.shown()[this.cursor]) {
      this.open(this.rows.shown()[this.cursor].id);
    } else return;
    event.preventDefault();
  }

  reveal() {
    const top = this.cursor * this.height;
    const { scrollTop } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.height > scrollTop + this.visible) this.scroller.scrollTop = top + this.height - this.visible;
    this.draw();
  }

  draw() {
    if (!this.element.isConnected) return;
    const list = this.rows.shown();
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row"));
    this.space.style.height = `${list.length * this.height}px`;
    this.empty.hidden = list.length > 0 || this.rows.loaded < this.rows.items.length;
    this.scroller.setAttribute("aria-rowcount", String(list.length + 1));
    this.cursor = Math.max(0, Math.min(this.cursor, list.length - 1));
    const size = Math.ceil(this.scroller.clientHeight / this.height) + 2 * SPARE;
    while (this.pool.length < size) this.pool.push(this.makeRow());
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / this.height) - SPARE);
    const count = this.pool.length;
    for (let index = first; index < first + count; index += 1) this.fill(this.pool[index % count], list, index);
    const current = this.pool[this.cursor % count];
    if (current?.index === this.cursor && list.length) this.scroller.setAttribute("aria-activedescendant", current.element.id);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  makeRow() {
    const cells = COLUMNS.map(([name]) => el("div", { role: "gridcell", class: `c-${name}` }));
    const status = el("span");
    const row = { cells, status, index: -1, id: null, shown: null };
    row.element = el("div", { role: "row", class: "row", id: `row-${this.pool.length}`, onclick: () => this.click(row) }, ...cells);
    this.space.append(row.element);
    return row;
  }

  click(row) {
    this.cursor = row.index;
    this.scroller.focus();
    this.open(row.id);
  }

  fill(row, list, index) {
    const request = list[index];
    const { element, cells } = row;
    element.hidden = request === undefined;
    if (request === undefined) return;
    if (row.index !== index || row.height !== this.height) {
      Object.assign(row, { index, height: this.height });
      element.style.transform = `translateY(${index * this.height}px)`;
      element.setAttribute("aria-rowindex", String(index + 2));
      element.classList.toggle("odd", index % 2 === 1);
    }
    element.classList.toggle("cursor", index === this.cursor);
    const inner = request.__request;
    const ticking = inner.status === "sent";
    if (row.shown === request && row.several === this.several && !ticking) return;
    const several = this.several;
    if (row.shown !== request || row.several !== several) this.fillText(row, request, several);
    text(cells[4], ticking ? duration(now() - Date.parse(inner.sentAt)) : duration(took(request) ?? NaN));
    Object.assign(row, { shown: request, several, id: request.id });
  }

  fillText(row, request, several) {
    const inner = request.__request;
    const { cells } = row;
    const command = several ? `  ${request.method.toUpperCase()} ${request.resource}` : "";
    if (cells[0].name !== inner.destination + command) {
      cells[0].name = inner.destination + command;
      cells[0].replaceChildren(inner.destination, command && el("small", {}, command));
      cells[0].title = inner.destination + command;
    }
    if (row.state !== inner.status) {
      row.state = inner.status;
      cells[1].replaceChildren(el("span", { class: `status s-${inner.status}` }, icon(inner.status), inner.status));
    }
    text(cells[2], inner.why ?? "");
    text(cells[3], inner.attempts ? String(inner.attempts) : "–");
    const came = outcome(inner.result);
    text(cells[5], came);
    cells[2].title = inner.why ?? "";
    cells[5].title = came;
  }

  end() {
    this.observer.disconnect();
  }
}
