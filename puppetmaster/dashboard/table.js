// A table of any number of requests of which only the visible rows are in the document.

import { now } from "./api.js";
import { el, icon, status, text } from "./dom.js";
import { said, took } from "./rows.js";
import { deciding } from "./steps.js";
import { duration } from "./words.js";

const COLUMNS = [
  ["destination", "Destination"],
  ["status", "Status"],
  ["attempts", "Attempts"],
  ["duration", "Duration"],
  ["result", "Result, or why it waits"],
];
export const ORDERS = ["created", ...COLUMNS.map(([name]) => name)];
const SPARE = 4;
/** Most steps of a gateway that are seen at once. */
const MARKS = 5;

export class Table {
  constructor(rows, open, sorted) {
    this.rows = rows;
    this.open = open;
    this.sorted = sorted;
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
    this.element = el("div", { class: "table" }, this.sorter(), this.scroller);
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("focus", () => this.draw());
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.scroller);
  }

  /** For the orders that no column has; on a narrow screen, where there are no columns, for all of them. */
  sorter() {
    this.choice = el("select", { "aria-label": "Sort by", onchange: () => this.order(this.choice.value || null, false) },
      el("option", { value: "" }, "Failures first"), el("option", { value: "created" }, "In order of creation"), COLUMNS.map(([name, label]) => el("option", { value: name }, `By ${label.toLowerCase()}`)));
    this.turned = el("button", { type: "button", onclick: () => this.order(this.rows.sort.by, !this.rows.sort.down) });
    return el("div", { class: "sorter" }, this.choice, this.turned);
  }

  sortBy(name) {
    const { by, down } = this.rows.sort;
    if (by !== name) this.order(name, false);
    else if (!down) this.order(name, true);
    else this.order(null, false);
  }

  order(by, down) {
    Object.assign(this.rows.sort, { by, down });
    this.rows.changed();
    this.first();
    this.sorted();
  }

  showOrder() {
    const { by, down } = this.rows.sort;
    this.heads.forEach((head, index) => {
      head.setAttribute("aria-sort", COLUMNS[index][0] !== by ? "none" : down ? "descending" : "ascending");
    });
    this.choice.value = by ?? "";
    this.turned.disabled = !by;
    text(this.turned, down ? "↓" : "↑");
    this.turned.setAttribute("aria-label", down ? "Descending, turn round" : "Ascending, turn round");
  }

  /** Whether a row is a gateway with its steps. */
  showSteps() {
    const { stepwise } = this.rows;
    if (this.stepwise === stepwise) return;
    this.stepwise = stepwise;
    this.element.classList.toggle("stepwise", stepwise);
    text(this.heads[1].firstChild, stepwise ? "Steps" : "Status");
    text(this.empty, `No ${stepwise ? "gateway" : "request"} fits the filter.`);
  }

  /** To the first row: of another order or another filter one wants to see the beginning. */
  first() {
    this.cursor = 0;
    this.scroller.scrollTop = 0;
  }

  /** The first and the last id of what is seen and is not done; null when all is. */
  waiting() {
    const ids = this.pool.filter((row) => !row.element.hidden && row.shown && !row.shown.__request.finishedAt).map((row) => row.id);
    return ids.length ? [Math.min(...ids), Math.max(...ids)] : null;
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
    this.showOrder();
    this.showSteps();
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row"));
    this.space.style.height = `${list.length * this.height}px`;
    this.empty.hidden = list.length > 0 || this.rows.loaded < this.rows.items.length;
    this.scroller.setAttribute("aria-rowcount", String(list.length + 1));
    this.stay(list);
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

  /** Failures that are new come above what one reads: it stays where it is. At the top one sees them come. */
  stay(list) {
    const { ahead } = this.rows;
    if (this.uppermost && ahead !== this.ahead && this.scroller.scrollTop > 0) {
      const more = list.findIndex((request) => this.rows.firstOf(request) === this.uppermost.id) - this.uppermost.index;
      if (this.uppermost.index >= this.ahead && this.uppermost.index + more >= 0) {
        this.scroller.scrollTop += more * this.height;
        this.cursor += more;
      }
    }
    const index = Math.floor(this.scroller.scrollTop / this.height);
    this.uppermost = list[index] && { id: this.rows.firstOf(list[index]), index };
    this.ahead = ahead;
  }

  makeRow() {
    const cells = COLUMNS.map(([name]) => el("div", { role: "gridcell", class: `c-${name}` }));
    const row = { cells, index: -1, id: null, shown: null, marks: [] };
    row.element = el("div", { role: "row", class: "row", id: `row-${this.pool.length}`, onclick: () => this.click(row) }, ...cells);
    this.space.append(row.element);
    return row;
  }

  click(row, id = row.id) {
    this.cursor = row.index;
    this.scroller.focus();
    this.open(id);
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
    const several = this.several;
    const steps = this.stepwise ? this.rows.stepsOf(request) : null;
    const statuses = steps?.map((step) => step.__request.status).join();
    const same = row.shown === request && row.several === several && row.statuses === statuses;
    if (same && !ticking) return;
    if (!same) this.fillText(row, request, several && !steps, steps);
    text(cells[3], ticking ? duration(now() - Date.parse(inner.sentAt)) : duration(took(request) ?? NaN));
    Object.assign(row, { shown: request, several, statuses, id: request.id });
  }

  fillText(row, request, several, steps) {
    const inner = request.__request;
    const { cells } = row;
    const command = several ? `  ${request.method.toUpperCase()} ${request.resource}` : "";
    if (cells[0].name !== inner.destination + command) {
      cells[0].name = inner.destination + command;
      cells[0].replaceChildren(inner.destination, command && el("small", {}, command));
      cells[0].title = inner.destination + command;
    }
    if (steps) this.fillMarks(row, steps);
    if (row.state !== inner.status || Boolean(steps) !== row.marked) {
      row.state = inner.status;
      row.marked = Boolean(steps);
      if (!steps) cells[1].replaceChildren(status(inner.status));
      row.element.classList.toggle("waits", inner.status === "pending");
    }
    text(cells[2], inner.attempts ? String(inner.attempts) : "–");
    const line = steps ? `${commandOf(request)}: ${said(request) || inner.status}` : said(request);
    text(cells[4], line);
    cells[4].title = line;
  }

  /** A mark for each step; of many those around the one that decides. */
  fillMarks(row, steps) {
    const decides = deciding(steps);
    const from = Math.max(0, Math.min(decides - Math.floor(MARKS / 2), steps.length - MARKS));
    const seen = steps.slice(from, from + MARKS);
    // They stay what they are while their steps go on: a press must not lose what it began on.
    while (row.marks.length < seen.length) row.marks.push(this.makeMark(row));
    seen.forEach((step, at) => {
      const mark = row.marks[at];
      const { status: state } = step.__request;
      const name = `Step ${from + at + 1} of ${steps.length}, ${commandOf(step)}: ${state}`;
      mark.id = step.id;
      if (mark.name === name && mark.decides === (from + at === decides)) return;
      Object.assign(mark, { name, decides: from + at === decides });
      mark.element.className = `mark s-${state}${mark.decides ? " decides" : ""}`;
      mark.element.title = name;
      mark.element.setAttribute("aria-label", name);
      mark.element.replaceChildren(icon(state), String(from + at + 1));
    });
    const before = from > 0 ? ["…"] : [];
    const after = from + MARKS < steps.length ? ["…"] : [];
    const shape = [before.length, seen.length, after.length].join();
    if (row.marked && row.shape === shape) return;
    row.shape = shape;
    row.cells[1].replaceChildren(...before, ...row.marks.slice(0, seen.length).map(({ element }) => element), ...after);
  }

  makeMark(row) {
    const mark = { id: null, name: "" };
    mark.element = el("button", { type: "button", class: "mark", tabindex: "-1", onclick: (event) => {
      event.stopPropagation();
      this.click(row, mark.id);
    } });
    return mark;
  }

  end() {
    this.observer.disconnect();
  }
}

function commandOf({ method, resource }) {
  return `${method.toUpperCase()} ${resource}`;
}
