// The head of a job: what it is, how it goes, what can be done with it.

import { list } from "./address.js";
import { Actions, stopping } from "./actions.js";
import { isOwn } from "./api.js";
import { ran } from "./card.js";
import { copyable } from "./dialogs.js";
import { badgePlace, el, facts, icon, stackedBar, text } from "./dom.js";
import { described } from "./policies.js";
import { Waves, overFailures } from "./waves.js";
import { STATUSES, command, duration, moment, number, plural, seconds, title, utc } from "./words.js";

const RATE_MS = 8000;
const LEAST_MS = 1000;

export class Head {
  /** `filtered(status)` is called when a count is pressed: whether it filters then. */
  constructor(id, rows, filtered) {
    this.id = id;
    this.rows = rows;
    this.samples = [];
    this.actions = new Actions(id, rows);
    this.waves = new Waves(rows);
    this.name = el("h1");
    this.badge = badgePlace();
    this.verdict = el("p", { class: "verdict" });
    this.bar = stackedBar();
    this.bar.classList.add("large");
    this.counts = new Map(STATUSES.map((status) => [status, this.chip(status, filtered)]));
    this.facts = el("div");
    this.about = el("div", { class: "about" });
    this.element = el("div", {},
      el("p", { class: "crumbs" }, el("a", { href: list.hash }, "Jobs"), " / ", copyable(String(id), "the id of this job"),
        this.origin = el("span"),
        el("span", { class: "again" }, el("a", { href: `#/new?job=${id}&save=true` }, "Save as template"), " · ", el("a", { href: `#/new?job=${id}` }, "Run again with changes"))),
      el("section", { class: "panel job-head", "aria-label": "Job" },
        el("div", { class: "headline" },
          el("div", { class: "title" }, this.name, this.badge),
          this.verdict),
        this.actions.element,
        this.bar,
        el("div", { class: "chips counts-by-status", role: "group", "aria-label": "Show requests by status" }, ...this.counts.values()),
        this.facts, this.waves.element, this.about));
  }

  chip(status, filtered) {
    const count = el("b");
    const chip = el("button", {
      type: "button", class: `chip s-${status}`, "aria-pressed": String(this.rows.filter.status.has(status)),
      onclick: () => chip.setAttribute("aria-pressed", String(filtered(status))),
    }, icon(status), count, el("span", {}, status));
    chip.count = count;
    return chip;
  }

  /** The filter is another one. */
  pressed() {
    for (const [status, chip] of this.counts) chip.setAttribute("aria-pressed", String(this.rows.filter.status.has(status)));
  }

  /** `around` is what is known beside the job: all in flight, the window, why nothing moves. */
  update(job, around) {
    text(this.name, this.title(job));
    document.title = `${job.finishedAt ? "" : `${job.progress}% `}${this.title(job)} · puppetmaster`;
    this.badge.update(job);
    text(this.verdict, verdict(job, this.rows));
    this.verdict.title = job.status === "pending" ? utc(job.startAt) : "";
    this.bar.update(job.counts);
    for (const [status, chip] of this.counts) {
      text(chip.count, number(job.counts[status]));
      chip.classList.toggle("none", job.counts[status] === 0);
    }
    if (job.template && !this.origin.firstChild) {
      this.origin.append(" · of ", el("a", { href: `#/templates/${job.template}` }, `template ${job.template}`));
    }
    this.actions.update(job);
    this.waves.update(job);
    this.showFacts(job, around);
    this.showAbout(job);
  }

  /** A job without a name, and too old to say what it does, is told by its requests. */
  title(job) {
    return title(job.name || job.summary ? job : { ...job, summary: this.command() });
  }

  command() {
    const [first] = this.rows.commands.keys();
    const more = this.rows.commands.size - 1;
    return first ? first + (more ? ` and ${more} more` : "") : "";
  }

  showFacts(job, around) {
    const { counts } = job;
    const perS = this.rate(job);
    const rate = ["Rate", perS ? `${number(perS >= 100 ? Math.round(perS) : perS)}/s` : "–"];
    const pairs = [["Done", `${number(job.doneCount)} of ${number(job.totalCount)} · ${job.progress}%`]];
    if (job.finishedAt) {
      if (perS) pairs.push(rate);
      pairs.push(["Ended", moment(job.finishedAt), job.finishedAt]);
    } else if (moves(job)) {
      const left = counts.pending + counts.sent;
      pairs.push(rate, ["Time left", left && perS ? `about ${duration((left / perS) * 1000)}` : "–"]);
    }
    if (job.startedAt) pairs.push(job.finishedAt ? ["Took", ran(job)] : job.status === "paused" ? ["Started", `${ran(job)} ago`] : ["Running for", ran(job)]);
    pairs.push(["Created", `${moment(job.createdAt)}${job.createdBy ? `, by ${job.createdBy}` : ""}`, job.createdAt]);
    if (!job.finishedAt) {
      pairs.push(["In flight", number(counts.sent)]);
      if (around.window) pairs.push(["In flight, all jobs", allInFlight(counts.sent + around.elsewhere, around.window)]);
      const why = counts.sent || stopping(job) ? "" : around.whys.summary(job, job.waveEnds?.[job.wave - 1] ?? job.totalCount);
      if (why) pairs.push(["Waiting", why]);
    }
    this.fill(this.facts, pairs);
  }

  showAbout(job) {
    const pairs = [["Command", command(job) || this.command()]];
    if (job.parent) pairs.push(["Re-run of", `job ${job.parent}`]);
    if (job.key && !isOwn(job.key)) pairs.push(["Key", job.key]);
    for (const gate of job.openedGates ?? [])
      pairs.push([`Gate behind wave ${gate.wave}`, `opened by hand over ${overFailures(gate, this.rows)}, ${moment(gate.at)}`, gate.at]);
    pairs.push(...described(job, ["waves"], job.waves && this.waves.sizes(job)));
    const said = JSON.stringify(pairs);
    if (this.about.said === said) return;
    this.about.said = said;
    const shown = pairs.map(([name, value, iso]) => {
      if (name === "Re-run of") return [name, el("a", { href: `#/jobs/${job.parent}` }, value)];
      if (name === "Key") return [name, copyable(value, "the key")];
      return [name, value, iso];
    });
    this.about.replaceChildren(facts(shown));
  }

  fill(place, pairs) {
    const said = JSON.stringify(pairs);
    if (place.said !== said) place.replaceChildren(facts(pairs));
    place.said = said;
  }

  sample(job) {
    const at = performance.now();
    // What was before a pause says nothing of how fast it is after it.
    if (this.moved !== moves(job)) this.samples = [];
    this.moved = moves(job);
    this.samples.push([at, tried(job)]);
    while (this.samples.length > 2 && this.samples[0][0] < at - RATE_MS) this.samples.shift();
  }

  /** Requests per second: of the last seconds while it runs, of all its time afterwards. */
  rate(job) {
    if (job.finishedAt) {
      const ms = Date.parse(job.finishedAt) - Date.parse(job.startedAt);
      return ms >= LEAST_MS ? (tried(job) * 1000) / ms : 0;
    }
    const [[from, before], [to, after]] = [this.samples[0], this.samples.at(-1)];
    return to - from > 500 ? ((after - before) * 1000) / (to - from) : 0;
  }
}

/** Whether requests of a job are sent: one that is paused, or between two waves, has no speed and no end. */
function moves(job) {
  return job.status === "dispatching" && !job.gateStatus;
}

function allInFlight(count, window) {
  const beyond = count > window ? "; those without an answer for 2 s do not count in it" : "";
  return `${number(count)}, window ${number(window)}${beyond}`;
}

/** Those that ended by being tried: skipping and canceling takes no time, and tells nothing of the rest. */
function tried({ counts }) {
  return counts.resolved + counts.error + counts.timeout + counts.unknown;
}

/** What came of a job, or what it is doing, in a sentence. */
export function verdict(job, rows) {
  const { totalCount: total, finishCount: good, counts, status, reason } = job;
  const failed = counts.error + counts.timeout + counts.unknown;
  const never = counts.canceled + counts.skipped;
  const those = rows.stops && rows.inGateways ? ` of ${plural(rows.steps.gateways.size, "gateway")}` : "";
  const so = `${number(good)} of ${plural(total, "request")} resolved${failed ? `, ${number(failed)}${those} failed` : ""}`;
  if (status === "resolved" && failed) return `${so}.`;
  if (status === "resolved") return total === 1 ? "Its one request resolved." : `All ${number(total)} requests resolved.`;
  if (job.finishedAt) return `${so}${never ? `, ${number(never)} never ran` : ""}: ${reason}.`;
  if (stopping(job)) return `Ending (${reason}): ${plural(job.counts.sent, "request")} still in flight.`;
  if (job.gateStatus === "closed") return `Waiting at a closed gate: ${reason ?? `wave ${job.wave} did not pass`}.`;
  if (job.gateStatus === "soak") return `Wave ${job.wave} passed and rests ${seconds(job.gate?.soak ?? 0)} before the next one. ${so} so far.`;
  if (status === "paused") return `Paused: nothing more is sent. ${so} so far.`;
  if (status === "pending") return job.startAt ? `It starts at ${moment(job.startAt)}.` : "It has not started.";
  return `Running: ${so} so far.`;
}
