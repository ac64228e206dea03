// One request in full: what was sent, what came back, each attempt.

import { now } from "./api.js";
import { copy, copyable, show } from "./dialogs.js";
import { el, facts, status, text, time } from "./dom.js";
import { took } from "./rows.js";
import { SOURCES, WAYS, duration, inZone, messageOf, moment, number, seconds } from "./words.js";

export class Drawer {
  /** `stepped()` is called when it shows another request. */
  constructor(rows, id, stepped) {
    this.rows = rows;
    this.id = id;
    this.stepped = stepped;
    // Scrolled by keys, and where the focus is when what had it was drawn anew.
    this.body = el("div", { class: "body", tabindex: "0", autofocus: true, role: "group", "aria-label": "The request" });
    this.title = el("h2", { id: "drawer-title" });
    this.why = el("span", { class: "muted" });
    this.copied = el("button", { type: "button", onclick: () => this.copy() }, "Copy as JSON");
    this.back = el("button", { type: "button", onclick: () => this.step(-1) }, "Previous");
    this.next = el("button", { type: "button", onclick: () => this.step(1) }, "Next");
    this.element = el("dialog", { class: "drawer", "aria-labelledby": "drawer-title" },
      el("header", {}, this.title,
        el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => this.element.close() }, "✕")),
      this.body,
      el("footer", {}, this.copied, el("span", { class: "gap" }), this.back, this.next));
    this.element.addEventListener("click", (event) => {
      // The second click of a double click on a row is not meant for what opened under it.
      if (event.target === this.element && event.detail < 2) this.element.close();
    });
    this.element.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey) this.step(by);
    });
  }

  open(closed) {
    this.draw();
    show(this.element, closed);
  }

  step(by) {
    const list = this.rows.each();
    const place = list.findIndex((request) => request.id === this.id);
    const found = place < 0 ? null : list[place + by];
    if (!found) return;
    this.id = found.id;
    this.draw();
    this.body.scrollTop = 0;
    this.stepped();
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
    const list = this.rows.each();
    const place = list.indexOf(request);
    this.back.disabled = place <= 0;
    this.next.disabled = place < 0 || place === list.length - 1;
    text(this.why, inZone(inner.why ?? ""));
    // A new reason alone must not close what was opened, or take away what is being selected.
    const rest = JSON.stringify({ ...request, __request: { ...inner, why: null } });
    if (rest === this.rest) return;
    this.rest = rest;
    const focused = this.element.contains(document.activeElement);
    this.title.replaceChildren(copyable(inner.destination, "the name"));
    this.body.replaceChildren(
      el("p", { class: "state-of-it" }, status(inner.status), this.why),
      facts([
        ["Request", copyable(String(request.id), "the id")],
        ["Attempts", number(inner.attempts)],
        ["Took", duration(took(request) ?? (inner.sentAt ? now() - Date.parse(inner.sentAt) : NaN))],
        ["Answer within", inner.timeout === null ? "no limit" : seconds(inner.timeout)],
        ...inner.route ? [["Sent", WAYS[inner.route] ?? inner.route]] : [],
      ]),
      el("h3", {}, "The answer"),
      answer(inner),
      el("h3", {}, "What happened"),
      el("ol", { class: "events" }, events(inner)),
      el("h3", {}, "What was sent"),
      el("p", { class: "command" }, el("b", {}, request.method.toUpperCase()), ` ${request.resource}`),
      data(request.data, "Data that was sent"),
    );
    if (focused && !this.element.contains(document.activeElement)) this.body.focus();
  }
}

function data(value, label) {
  return el("pre", { tabindex: "0", "aria-label": label }, JSON.stringify(value, null, 2));
}

/** The answer to the last attempt that ended, also while another one is waited for. */
function answer(inner) {
  const attempts = inner.history ?? [];
  const last = attempts.at(-1);
  if (!came(inner.result) && !inner.finishedAt && last) {
    const again = inner.status === "sent" ? `attempt ${attempts.length + 1} is in flight` : "another attempt follows";
    return el("div", {},
      el("p", { class: "muted" }, `Attempt ${attempts.length} ended as ${last.status}; ${again}.`),
      came(last.result) ? result(last.result) : null);
  }
  if (came(inner.result)) return result(inner.result);
  return el("p", { class: "muted" }, inner.finishedAt ? "There was none." : "There is none yet.");
}

function came(given) {
  return Boolean(given) && Object.keys(given).length > 0;
}

function result(given) {
  const pairs = [["Code", String(given.code ?? "none")], ["From", SOURCES[given.source] ?? String(given.source ?? "")]];
  if (given.late) pairs.push(["Late", "it arrived after the request had ended"]);
  return el("div", {}, facts(pairs), given.message ? el("p", { class: "message" }, messageOf(given)) : null, given.data === undefined ? null : data(given.data, "Data of the answer"));
}

/** From its creation to its end, with each attempt between. */
function events(inner) {
  const attempts = [...(inner.history ?? [])];
  if (inner.sentAt) attempts.push({ ...inner, current: true });
  const shown = [event(inner.createdAt, "Created")];
  attempts.forEach((one, index) => shown.push(attempt(one, index + 1)));
  if (inner.status === "pending") shown.push(event(null, attempts.length ? "Waits for another attempt" : "Waits to be sent"));
  else if (!inner.sentAt) shown.push(event(inner.finishedAt, `Ended as ${inner.status}${attempts.length ? "" : ", never sent"}`));
  return shown;
}

function event(iso, words) {
  return el("li", {}, el("b", {}, words), iso ? el("div", { class: "when" }, time(iso, moment(iso, 3))) : null);
}

function attempt({ sentAt, finishedAt, status: ended, result: given, message, route, current }, place) {
  const code = given?.code ?? null;
  return el("li", { class: `s-${ended}` },
    el("b", {}, `Attempt ${place}`), " ", status(ended), code === null ? null : el("span", { class: "code" }, ` ${code}`),
    el("div", { class: "when" }, time(sentAt, moment(sentAt, 3)), finishedAt ? [" to ", time(finishedAt, moment(finishedAt, 3)),
      `, ${duration(Date.parse(finishedAt) - Date.parse(sentAt))}`] : ", no answer yet", route === "direct" ? "; sent directly" : ""),
    given?.message ? el("div", {}, messageOf(given)) : null,
    message ? el("div", { class: "when" }, "message ", copyable(String(message), "the message id")) : null,
    // The data of the last answer stand above.
    current || given?.data === undefined ? null
      : el("details", {}, el("summary", {}, "Its data"), data(given.data, `Data of the answer to attempt ${place}`)));
}
