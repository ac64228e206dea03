// Making elements. Data becomes text nodes and attributes only, never markup.

import { STATUSES, moment, number, plural, tally, utc } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element: `properties` are attributes, `on*` listeners; children are elements or text. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One of the symbols of index.html; decoration, since its meaning always stands beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Set text only where it differs: an untouched node costs the browser nothing. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** A time in the viewer's zone; UTC is said on hover. */
export function time(iso, said = moment(iso)) {
  return iso ? el("time", { datetime: iso, title: utc(iso) }, said) : el("span", {}, said);
}

/** A status of a request: its symbol and its name. */
export function status(name) {
  return el("span", { class: `status s-${name}` }, icon(name), name);
}

/** A search field with the key that leads to it, where there are keys. */
export function search(properties, key = "") {
  const field = el("input", { type: "search", spellcheck: "false", autocomplete: "off", ...properties });
  return key ? el("span", { class: "search" }, field, el("kbd", { "aria-hidden": "true" }, key)) : field;
}

const JOB_ICONS = { dispatching: "sent", aborted: "error" };

/** A badge with the status of a job; a job that ended with failures is not shown as a success. */
export function jobBadge(job) {
  const troubled = job.status === "resolved" && job.errorCount > 0;
  const look = troubled ? "troubled" : job.status;
  const symbol = troubled ? "error" : JOB_ICONS[job.status] ?? job.status;
  return el("span", { class: `badge job-${look}` }, icon(symbol), troubled ? "resolved, with failures" : job.status);
}

/** A place for the badge of a job; `update(job)` changes it where it differs. */
export function badgePlace() {
  const place = el("span", { class: "state" });
  place.update = (job) => {
    const look = `${job.status} ${job.errorCount > 0}`;
    if (place.dataset.look === look) return;
    place.dataset.look = look;
    place.replaceChildren(jobBadge(job));
  };
  return place;
}

/** A bar stacked by status; `update(counts)` moves it. */
export function stackedBar() {
  const parts = new Map(STATUSES.map((name) => [name, el("i", { class: `part s-${name}` })]));
  const bar = el("div", { class: "bar", role: "img" }, ...parts.values());
  bar.update = (counts) => {
    for (const [name, part] of parts) {
      part.hidden = !counts[name];
      part.style.flexGrow = counts[name];
    }
    bar.setAttribute("aria-label", tally(counts));
  };
  return bar;
}

/** What fills `place` with rows, `[key, data]` each. A row stays, and so do its cells that look as before: no click and no focus is lost. */
export function keptRows(place) {
  let kept = new Map();
  return (items, make) => {
    const before = kept;
    kept = new Map(items.map(([key, data]) => [key, patched(before.get(key), make(data))]));
    const rows = [...kept.values()];
    if (rows.length !== place.children.length || rows.some((row, index) => place.children[index] !== row)) place.replaceChildren(...rows);
  };
}

function patched(row, fresh) {
  if (!row) return fresh;
  [...fresh.children].forEach((cell, index) => {
    if (!row.children[index].isEqualNode(cell)) row.children[index].replaceChildren(...cell.childNodes);
  });
  return row;
}

/** A table with these columns, `{key: title}`, and what fills it, as `keptRows` does; `first` are heads in front of them. */
export function tableOf(name, columns, { first = [], ...more } = {}) {
  const rows = el("tbody", { role: "rowgroup" });
  const heads = Object.values(columns).map((title) => el("th", { scope: "col", role: "columnheader" }, title));
  return {
    table: el("table", { class: name, role: "table", ...more }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, first, heads)), rows),
    put: keptRows(rows),
  };
}

/** A row of such a table: its cells by their keys. `sort` begins their classes; `first` are cells in front of them. */
export function rowOf(columns, sort, cells, ...first) {
  return el("tr", { role: "row" }, first, Object.entries(columns).map(([key, title]) =>
    el("td", { role: "cell", class: `${sort}-${key}`, "data-name": title }, cells[key] || null)));
}

/** The page, or the last one where there are not so many. */
export const pageWithin = (page, size, total) => Math.min(page, Math.max(1, Math.ceil(total / size)));

/** The buttons to the pages of a list, `turn(by)`, and `show()`, which says which of all rows are seen. */
export function pagerOf(turn, [before, after], ...more) {
  const range = el("span", { role: "status" });
  const [back, on] = [[before, -1], [after, 1]].map(([said, by]) => el("button", { type: "button", onclick: () => turn(by) }, said));
  const pager = el("nav", { class: "pager", "aria-label": "Pages" }, range, more, el("span", { class: "gap" }), back, on);
  pager.show = ({ page, size, shown, total, what }) => {
    const offset = (page - 1) * size;
    text(range, total ? `${number(Math.min(offset + 1, total))}–${number(offset + shown)} of ${plural(total, what)}` : "");
    back.disabled = page === 1;
    on.disabled = offset + size >= total;
    back.hidden = on.hidden = back.disabled && on.disabled;
  };
  return pager;
}

/** Names and values, `[name, value, iso]`: with a time, UTC is said on hover. */
export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.map(([name, value, iso]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, iso ? time(iso, value) : value))));
}

const waiting = new Set();
/** Run `draw` in the next animation frame, once however often it is asked for. */
export function soon(draw) {
  if (waiting.size === 0) requestAnimationFrame(() => {
    const all = [...waiting];
    waiting.clear();
    for (const one of all) one();
  });
  waiting.add(draw);
}
