// One gateway: whether it is there, its labels and note, which can be changed, and all its requests, newest first.

import { pageIn, write } from "./address.js";
import { ApiError, call, now, queryOf } from "./api.js";
import { control } from "./control.js";
import { attempt, copyable, notify } from "./dialogs.js";
import { el, facts, pageWithin, pagerOf, rowOf, status, tableOf, text, time } from "./dom.js";
import { Reread } from "./live.js";
import { said, took } from "./rows.js";
import { FAILURES, age, duration, moment, sentence, utc } from "./words.js";

const PAGE = 25;
/** So often it is read anew; sooner while a request that is shown is not done. */
const AGAIN_S = 10;
const SOON_S = 2;
const COLUMNS = { status: "Status", command: "Command", job: "Job", when: "When", took: "Took", result: "Result" };

/** The address of a gateway's own view. */
export const hashOf = (name) => `#/gateways/${encodeURIComponent(name)}`;

/** A label as a selector has it. */
export const labelled = ([key, value]) => (value ? `${key}=${value}` : key);

/** Whether it is there, in words. */
export function presence({ connected, registered }) {
  const words = [{ true: "connected", false: "away" }[connected], { true: "registered", false: "not registered" }[registered]];
  return words.filter(Boolean).join(", ");
}

/** What its presence is known from. */
export function checked({ checkedAt }) {
  return checkedAt ? `The controller said so at ${moment(checkedAt)} (${utc(checkedAt)}).` : "";
}

/** How long ago there was a sign of it; null where none is known. */
export function seen({ lastSeenAt }) {
  if (!lastSeenAt) return null;
  const since = age(now() - Date.parse(lastSeenAt));
  return time(lastSeenAt, since === "now" ? "just now" : `${since} ago`);
}

export class GatewayView extends Reread {
  constructor(place, name, given, state) {
    super();
    document.title = `${name} · puppetmaster`;
    this.name = name;
    this.page = pageIn(given);
    this.failed = given.get("failed") === "true";
    this.facts = el("div");
    this.check = control("Check now", { needs: "viewer", work: () => this.load({ check: "true" }), look: "quiet" });
    this.unknown = el("p", { class: "warning", hidden: true });
    place.append(
      el("p", { class: "crumbs" }, el("a", { href: "#/gateways" }, "Gateways"), " / ", copyable(name, "the name"),
        el("a", { class: "again", href: `#/new${queryOf({ to: name })}` }, "New job for it")),
      el("section", { class: "panel of-gateway", "aria-label": "Gateway" },
        el("div", { class: "title" }, el("h1", {}, name), el("span", { class: "gap" }), this.check), this.unknown, this.facts, this.keeping()),
      this.history());
    this.follow(state, AGAIN_S);
  }

  /** Labels and note, to be changed. */
  keeping() {
    const field = (name, label, more) => el("div", { class: "field" }, el("label", { for: name }, label),
      this[name] = el("input", { id: name, name, type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": "keep-fault", ...more,
        oninput: () => this.typed() }));
    this.fault = el("p", { class: "fault", id: "keep-fault", role: "alert", hidden: true });
    this.save = control("Save", { name: "Save labels and note", work: () => this.keep() });
    this.undo = control("Undo", { name: "Undo what was typed", needs: "viewer", work: async () => this.fill(), look: "quiet" });
    return this.form = el("form", { class: "keeping", "aria-label": "Labels and note", hidden: true, onsubmit: (event) => {
      event.preventDefault();
      this.save.click();
    } }, field("labels", "Labels", { class: "code", placeholder: "site=north, retired" }), field("note", "Note", { placeholder: "none" }),
    el("div", { class: "actions" }, this.save, this.undo), this.fault);
  }

  history() {
    Object.assign(this, tableOf("history", COLUMNS));
    this.empty = el("p", { class: "empty" }, "Loading …");
    this.pager = pagerOf((by) => this.turn(by), ["Newer", "Older"]);
    const chip = el("button", { type: "button", class: "chip", "aria-pressed": String(this.failed), onclick: () => {
      this.failed = !this.failed;
      chip.setAttribute("aria-pressed", String(this.failed));
      this.page = 0;
      this.turn(1);
    } }, "only failures");
    return el("section", { "aria-label": "Its requests, newest first" },
      el("div", { class: "title" }, el("h2", {}, "Its requests"), chip, el("span", { class: "gap" }), el("a", { href: `#/${queryOf({ destination: this.name })}` }, "Its jobs")),
      el("div", { class: "panel wide" }, this.table, this.empty),
      this.pager);
  }

  turn(by) {
    this.page = Math.max(1, this.page + by);
    this.address({ push: true });
    this.load();
  }

  address(more) {
    write(`gateways/${encodeURIComponent(this.name)}`, { page: this.page > 1 ? this.page : "", failed: this.failed ? "true" : "" }, more);
  }

  async load(how = {}) {
    const asked = this.asked = (this.asked ?? 0) + 1;
    this.seconds = 0;
    await attempt(async () => {
      const [known, requests] = await Promise.all([this.look(how), this.requests()]);
      if (asked !== this.asked || this.ended) return;
      this.show(known);
      this.list(requests);
    });
  }

  /** The gateway as it is known, null where it is not. */
  async look(how = {}) {
    try {
      return (await call("GET", `/gateways/${encodeURIComponent(this.name)}${queryOf(how)}`)).data;
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /** A page of its requests. The API has them oldest first: the newest are the last of them. */
  async requests() {
    const wanted = { destination: this.name, status: this.failed ? FAILURES.join(",") : "" };
    const { total } = await call("GET", `/requests${queryOf({ ...wanted, limit: 0 })}`);
    const page = pageWithin(this.page, PAGE, total);
    if (page !== this.page && !this.ended) {
      this.page = page;
      this.address();
    }
    const end = Math.max(0, total - (page - 1) * PAGE);
    const offset = Math.max(0, end - PAGE);
    if (end === 0) return { total, data: [] };
    const { data } = await call("GET", `/requests${queryOf({ ...wanted, limit: end - offset, offset })}`);
    return { total, data: data.reverse() };
  }

  show(known) {
    this.unknown.hidden = Boolean(known);
    text(this.unknown, known ? "" : "No gateway of this name is known: none was put here, none registers, and no job went to it.");
    this.form.hidden = !known;
    this.facts.hidden = !known;
    this.check.hidden = !known;
    if (!known) return;
    const { lastResult: last } = known;
    const shown = facts([
      ["Is", presence(known) || "not known"],
      ["Checked", known.checkedAt ? time(known.checkedAt) : "not yet"],
      ["Last seen", seen(known) ?? "not known"],
      ["Last result", last ? [status(last.status), last.code === null ? "" : ` ${last.code}`] : "none"],
    ]);
    if (!this.facts.firstChild?.isEqualNode(shown)) this.facts.replaceChildren(shown);
    // What is being typed is not taken away.
    const untouched = !this.known || !this.changes();
    this.known = known;
    if (untouched) this.fill();
    else this.typed();
  }

  /** What stands there is what is known. */
  fill() {
    this.base = this.known;
    this.labels.value = listed(this.known);
    this.note.value = this.known.note ?? "";
    this.typed();
  }

  /** What was typed and is another than before, as the API takes it; null: nothing. */
  changes() {
    const found = {};
    if (words(this.labels.value).join() !== words(listed(this.base)).join()) {
      found.labels = Object.fromEntries(words(this.labels.value).map((word) => {
        const at = word.indexOf("=");
        return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
      }));
    }
    if (this.note.value.trim() !== (this.base.note ?? "")) found.note = this.note.value.trim();
    return Object.keys(found).length ? found : null;
  }

  typed() {
    this.wrong("");
    const why = this.changes() ? "" : "Labels and note are as they were.";
    this.save.allow(why);
    this.undo.allow(why);
  }

  wrong(said) {
    this.fault.hidden = !said;
    text(this.fault, said);
  }

  async keep() {
    const changes = this.changes();
    const keys = words(this.labels.value).map((word) => word.split("=")[0]);
    const twice = keys.find((key, index) => keys.indexOf(key) !== index);
    if (changes.labels && twice) return this.wrong(`Labels: ${twice} stands there twice.`);
    try {
      const there = await this.look();
      if (JSON.stringify([there?.labels, there?.note]) !== JSON.stringify([this.base.labels, this.base.note])) {
        this.known = this.base = there ?? this.base;
        this.typed();
        return this.wrong(`They were changed meanwhile: ${listed(this.base) || "no labels"}; ${this.base.note ?? "no note"}. Nothing was saved: look again.`);
      }
      this.known = (await call("PUT", `/gateways/${encodeURIComponent(this.name)}`, changes)).data;
      this.fill();
      notify(`The labels and the note of ${this.name} are saved.`);
    } catch (error) {
      const faults = error instanceof ApiError ? error.errors : [];
      this.wrong(faults.length ? faults.map(({ path, message }) => `${path}: ${sentence(message)}`).join(" ") : error.message);
    }
    return undefined;
  }

  list({ data, total }) {
    this.put(data.map((one) => [one.id, one]), row);
    this.againS = data.some((one) => !one.__request.finishedAt) ? SOON_S : AGAIN_S;
    this.table.hidden = !data.length;
    this.empty.hidden = data.length > 0;
    text(this.empty, this.failed ? "No request of it failed, of those that are kept." : "There is no request of it, of those that are kept.");
    this.pager.show({ page: this.page, size: PAGE, shown: data.length, total, what: "request" });
  }
}

const words = (typed) => typed.split(/[\s,;]+/).filter(Boolean);

function listed({ labels }) {
  return Object.entries(labels).sort().map(labelled).join(", ");
}

function row(request) {
  const { id, job, method, resource, __request: inner } = request;
  const at = inner.finishedAt ?? inner.sentAt ?? inner.createdAt;
  const cells = {
    status: status(inner.status),
    command: el("a", { href: `#/jobs/${job}${queryOf({ request: id })}`, title: "To this request" }, `${method.toUpperCase()} ${resource}`),
    job: el("a", { href: `#/jobs/${job}` }, `Job ${job}`),
    when: time(at), took: duration(took(request) ?? NaN), result: said(request),
  };
  return rowOf(COLUMNS, "h", cells);
}
