// Equal results folded into groups, and how the others differ from the largest good one.

import { call } from "./api.js";
import { el, icon, status } from "./dom.js";
import { SOURCES, messageOf, number, plural } from "./words.js";

const AGAIN_MS = 2000;
const PAGE = 100;
const SHOWN_NAMES = 40;
// More answers than this that one gateway alone gave are one line, until it is opened.
const SINGLES = 12;

export class Results {
  constructor(jobId) {
    this.jobId = jobId;
    this.element = el("div", { class: "results" }, el("p", { class: "muted" }, "Loading …"));
    this.open = new Set();
    this.limit = PAGE;
  }

  /** Look again, but not for each change of a job: folding reads all of it. */
  draw(force = false) {
    if (!this.element.isConnected) return;
    if (this.busy) {
      this.wanted = true;
      return;
    }
    const left = force ? 0 : (this.readAt ?? 0) + AGAIN_MS - Date.now();
    if (left > 0) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.draw(), left);
      return;
    }
    this.busy = true;
    this.load().finally(() => {
      this.busy = false;
      this.readAt = Date.now();
      if (this.wanted) this.draw();
      this.wanted = false;
    });
  }

  async load() {
    try {
      const { data, total } = await call("GET", `/jobs/${this.jobId}/results?diff=true&limit=${this.limit}`);
      const said = JSON.stringify([total, data]);
      if (said !== this.said) this.show(data, total);
      this.said = said;
    } catch (error) {
      this.said = null;
      this.element.replaceChildren(el("p", { class: "fault" }, error.message));
    }
  }

  show(groups, total) {
    const more = total - groups.length;
    const widest = groups.reduce((most, { count }) => Math.max(most, count), total);
    // As wide as the widest count are all of them, so that what follows lines up.
    this.element.style.setProperty("--count", `${Math.max(3, number(widest).length)}ch`);
    const steps = stepsOf(groups);
    this.element.replaceChildren(
      el("h2", { class: "unseen" }, "Results"),
      el("p", { class: "muted" }, total ? `${plural(total, "different result")}${steps.length > 1 ? " by step" : ""}, the most frequent first.` : "There is no result yet."),
      ...steps.flatMap(([step, some], at) => [
        step && el("h3", {}, step),
        ...this.listed(some, step ?? "", at === steps.length - 1 ? more : 0),
      ].filter(Boolean)));
  }

  /** Groups that belong together, and a button for `more` of which there are not all. */
  listed(groups, step, more) {
    const first = groups.findIndex((group) => group.count === 1);
    // The largest come first: behind one that is alone, all are. But not those of the steps that follow.
    const singles = first < 0 ? 0 : groups.length - first + (step ? 0 : more);
    const folded = singles > SINGLES;
    const below = folded && !step ? more : 0;
    return [
      ...(folded ? groups.slice(0, first) : groups).map((group) => this.group(group)),
      folded && this.singles(groups.slice(first), step, singles, below),
      more > below && this.more(more),
    ];
  }

  more(count) {
    return el("button", { type: "button", onclick: () => {
      this.limit += PAGE;
      this.draw(true);
    } }, `Show ${number(Math.min(PAGE, count))} more of ${number(count)}`);
  }

  singles(groups, step, count, more) {
    return this.details(`singles ${step}`, "singles",
      [el("b", { class: "count" }, number(count)), el("span", { class: "said" }, "results that one gateway alone had")],
      () => [...groups.map((group) => this.group(group)), more > 0 ? this.more(more) : null]);
  }

  group(group) {
    const { result } = group.sample;
    const key = JSON.stringify([group.step, group.status, group.code, result.source, result.data]);
    const alone = group.count === 1 ? `${group.destinations[0]}: ` : "";
    const said = messageOf(result) ?? (result.data === undefined ? "no answer" : JSON.stringify(result.data));
    return this.details(key, "", [
      el("b", { class: "count" }, number(group.count)),
      status(group.status),
      el("span", { class: "code" }, String(group.code ?? "")),
      el("span", { class: "said" }, alone + (said.length > 300 ? `${said.slice(0, 300)}…` : said)),
    ], () => body(group));
  }

  /** A line that opens; what is below is made when it does. */
  details(key, look, line, below) {
    const place = el("div", { class: "below" });
    const fill = () => place.childElementCount || place.replaceChildren(...below().filter(Boolean));
    const details = el("details", { class: look, open: this.open.has(key) }, el("summary", {}, icon("more"), ...line), place);
    if (details.open) fill();
    details.addEventListener("toggle", () => {
      this.open[details.open ? "add" : "delete"](key);
      if (details.open) fill();
    });
    return details;
  }

  end() {
    clearTimeout(this.timer);
  }
}

/** The groups of each step, which stand together, with its command: "POST /system/reboot"; of other jobs all, and none. */
function stepsOf(groups) {
  const found = [];
  for (const group of groups) {
    const step = group.step?.replace(/^[a-z]+/, (method) => method.toUpperCase());
    if (found.length && found.at(-1)[0] === step) found.at(-1)[1].push(group);
    else found.push([step, [group]]);
  }
  return found;
}

function body(group) {
  const { result } = group.sample;
  const more = group.destinations.length - SHOWN_NAMES;
  const from = result.source ? ` from ${SOURCES[result.source] ?? result.source}` : "";
  const heading = group.step ? "h4" : "h3";
  return [
    el(heading, {}, group.count === 1 ? "Gateway" : "Gateways"),
    el("p", { class: "names" }, group.destinations.slice(0, SHOWN_NAMES).map((name) => el("code", {}, name)),
      more > 0 ? el("span", { class: "muted" }, ` and ${number(more)} more`) : null),
    group.diff?.length ? difference(group.diff) : null,
    result.data === undefined ? null : el(heading, {}, group.count === 1 ? `The answer${from}` : `The answer of one of them${from}`),
    result.data === undefined ? null : el("pre", { tabindex: "0", "aria-label": "Sample answer" }, JSON.stringify(result.data, null, 2)),
  ];
}

function difference(diff) {
  const value = (one, side, name) => el("td", { "data-name": name }, side in one ? JSON.stringify(one[side]) : "absent");
  return el("table", { class: "diff" },
    el("caption", {}, "How it differs from the most frequent good answer"),
    el("thead", {}, el("tr", {}, ["Where", "Good", "Here"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, diff.map((one) => one.message
      ? el("tr", {}, el("td", { colspan: "3" }, one.message))
      : el("tr", {}, el("th", { scope: "row" }, one.path || "the whole"), value(one, "good", "Good"), value(one, "here", "Here")))));
}
