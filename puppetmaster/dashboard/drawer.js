// One request in full: what was sent, what came back, when.

import { now } from "./api.js";
import { copy, show } from "./dialogs.js";
import { duration, el, icon, moment, text } from "./dom.js";
import { took } from "./rows.js";

const SOURCES = {
  device: "the device",
  remote: "the remote bundle",
  controller: "the controller",
  puppetmaster: "puppetmaster itself",
};

export class Drawer {
  constructor(rows, id) {
    this.rows = rows;
    this.id = id;
    this.body = el("div", { class: "body" });
    this.title = el("h2", { id: "drawer-title" });
    this.copied = el("button", { type: "button", onclick: () => this.copy() }, "Copy as JSON");
    this.back = el("button", { type: "button", onclick: () => this.step(-1) }, "Previous");
    this.next = el("button", { type: "button", onclick: () => this.step(1) }, "Next");
    this.element = el("dialog", { class: "drawer", "aria-labelledby": "drawer-title" },
      el("header", {}, this.title,
        el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => this.element.close() }, "✕")),
      this.body,
      el("footer", {}, this.copied, el("span", { class: "gap" }), this.back, this.next));
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
  }

  open(closed) {
    this.draw();
    show(this.element, closed);
  }

  step(by) {
    const list = this.rows.shown();
    const found = list[list.findIndex((request) => request.id === this.id) + by];
    if (found) this.id = found.id;
    this.draw();
  }

  async copy() {
    await copy(JSON.stringify(this.rows.get(this.id), null, 2), this.element);
    text(this.copied, "Copied");
    setTimeout(() => text(this.copied, "Copy as JSON"), 1500);
  }

  draw() {
    const request = this.rows.get(this.id);
    if (!request || this.drawn === request) return;
    this.drawn = request;
    const inner = request.__request;
    const list = this.rows.shown();
    const place = list.indexOf(request);
    this.back.disabled = place <= 0;
    this.next.disabled = place < 0 || place === list.length - 1;
    text(this.title, inner.destination);
    const came = Object.keys(inner.result).length > 0;
    this.body.replaceChildren(
      el("p", {}, el("span", { class: `status s-${inner.status}` }, icon(inner.status), inner.status),
        inner.why && el("span", { class: "muted" }, `  ${inner.why}`)),
      facts([
        ["Request", String(request.id)],
        ["Created", moment(inner.createdAt)],
        ["Sent", inner.sentAt ? moment(inner.sentAt) : "not yet"],
        ["Ended", inner.finishedAt ? moment(inner.finishedAt) : "not yet"],
        ["Took", duration(took(request) ?? (inner.sentAt ? now() - Date.parse(inner.sentAt) : NaN))],
        ["Attempts", String(inner.attempts)],
        ["Answer within", inner.timeout === null ? "no limit" : `${inner.timeout} s`],
      ]),
      el("h3", {}, "What was sent"),
      el("p", { class: "command" }, el("b", {}, request.method.toUpperCase()), ` ${request.resource}`),
      el("pre", { tabindex: "0", "aria-label": "Data that was sent" }, JSON.stringify(request.data, null, 2)),
      el("h3", {}, "The answer"),
      came ? answer(inner.result) : el("p", { class: "muted" }, inner.finishedAt ? "There was none." : "There is none yet."),
    );
  }
}

function answer(result) {
  const pairs = [["Code", String(result.code ?? "none")], ["From", SOURCES[result.source] ?? String(result.source ?? "")]];
  if (result.message) pairs.push(["Message", result.message]);
  if (result.late) pairs.push(["Late", "it arrived after the request had ended"]);
  return el("div", {}, facts(pairs),
    result.data === undefined ? null : el("pre", { tabindex: "0", "aria-label": "Data of the answer" }, JSON.stringify(result.data, null, 2)));
}

/** Pairs of a name and a value. */
export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
