// What can be done with a job. Each button has its place in every status; what cannot be done is disabled and says why.

import { Maker, call } from "./api.js";
import { UNANSWERED } from "./contract.js";
import { control } from "./control.js";
import { attempt, confirm, notify } from "./dialogs.js";
import { el, text } from "./dom.js";
import { exportCsv, exportJson } from "./export.js";
import { link } from "./link.js";
import { waveSizes } from "./policies.js";
import { failures, having, told } from "./reach.js";
import { FAILED, capital, number, plural, tally, title } from "./words.js";

/** What leads on stands out, where it can be done. */
const ONWARD = ["resume", "next", "start", "rerun"];

/** Whether a job was told to end and waits for what is in flight. */
export function stopping(job) {
  return Boolean(job.ending);
}

export class Actions {
  constructor(id, rows) {
    this.id = id;
    this.rows = rows;
    this.maker = new Maker();
    const put = (body) => () => attempt(() => call("PUT", `/jobs/${id}`, body));
    const going = put({ status: "dispatching" });
    this.buttons = {
      pause: control("Pause", { work: put({ status: "paused" }) }),
      resume: control("Resume", { work: going }),
      next: control("Next wave", { ask: () => this.askNext(), work: going }),
      start: control("Start now", { work: going }),
      cancel: control("Cancel", { ask: () => this.askCancel(), work: put({ status: "canceled" }) }),
      rerun: control("Re-run failed", { ask: () => this.askRerun(), work: () => this.rerun() }),
      force: control("Force to end", {
        ask: () => this.askForce(), work: put({ status: "canceled", force: true }), look: "quiet danger",
      }),
      remove: control("Delete", { ask: () => this.askRemove(), work: () => this.remove(), needs: "admin", look: "quiet danger" }),
    };
    const file = (label, name, work) => control(label, { name, work, needs: "viewer", look: "quiet" });
    const { force, remove, ...often } = this.buttons;
    this.stopped = el("p", { class: "stopped", role: "status", "data-link": "" });
    this.stopped.refresh = () => text(this.stopped, link.why ? `${link.why} These buttons work again by themselves.` : "");
    this.stopped.refresh();
    this.element = el("div", { class: "acting" },
      el("div", { class: "actions", role: "group", "aria-label": "What can be done with this job" },
        ...Object.values(often), el("span", { class: "gap" }), file("↓ JSON", "Export as JSON", () => exportJson(id)),
        file("↓ CSV", "Export as CSV", () => exportCsv(id)), force, remove),
      this.stopped);
  }

  update(job) {
    this.job = job;
    // What this job can never do has no place: a job keeps its waves and its time to start.
    this.buttons.next.hidden = !job.waves;
    this.buttons.start.hidden = !job.startAt;
    for (const [name, why] of Object.entries(impossible(job))) {
      this.buttons[name].allow(why);
      if (ONWARD.includes(name)) this.buttons[name].classList.toggle("primary", !why);
    }
  }

  /** Ask about this job; false too when it has changed so meanwhile that the question was another one. */
  async ask(about, still = () => true) {
    const yes = await confirm({ about: `${title(this.job)} (job ${this.id})`, ...about });
    if (yes && !still(this.job)) notify("The job has changed meanwhile. Nothing was sent: look again.", "error");
    return yes && still(this.job);
  }

  askNext() {
    const { wave, waveEnds } = this.job;
    const ends = [0, ...waveEnds];
    const next = this.rows.items.slice(ends[wave], ends[wave + 1]).filter(Boolean);
    return this.ask({
      title: `Open the gate though wave ${wave} failed?`,
      sentence: `${capital(this.job.reason ?? `wave ${wave} did not pass its gate`)}. Wave ${wave + 1} begins at once, and the job says for ever that its gate was opened by hand.`,
      pairs: [
        failures(`Failed in wave ${wave}`, this.rows, ends[wave - 1], ends[wave]),
        told(`Wave ${wave + 1} reaches`, next, this.rows.inGateways
          ? plural(this.rows.between(ends[wave], ends[wave + 1]).length, "gateway") : plural(waveSizes(this.job)[wave], "request")),
      ],
      action: "Open the gate",
    }, (job) => job.wave === wave && job.gateStatus === "closed" && !job.finishedAt);
  }

  askCancel() {
    return this.ask({
      title: "Cancel this job?",
      sentence: "Nothing more of it is sent. What is in flight is waited for. This cannot be undone.",
      pairs: this.left("Will not run"),
      action: "Cancel the job",
    }, (job) => !job.finishedAt);
  }

  askForce() {
    const { sent, pending } = this.job.counts;
    return this.ask({
      title: "Force this job to end?",
      sentence: `${plural(sent, "request")} in flight will end as unknown at once: whether ${sent === 1 ? "it" : "they"} ran `
        + "will not be known, unless a late answer tells. "
        + (pending ? `${plural(pending, "request")} that ${pending === 1 ? "waits" : "wait"} will be canceled.` : "Nothing else waits."),
      pairs: this.left("Will not run"),
      action: "Force to end",
    }, (job) => !job.finishedAt);
  }

  askRemove() {
    const many = plural(this.job.totalCount, "request");
    return this.ask({
      title: "Delete this job?",
      sentence: this.job.finishedAt ? `The job and its ${many} are removed for good, results too.`
        : `It still runs: it is stopped, and then removed for good with its ${many}.`,
      pairs: this.job.finishedAt ? [failures("Failed", this.rows)] : this.left("Will not run"),
      action: "Delete",
    });
  }

  askRerun() {
    const again = failed(this.job);
    this.again = again.status;
    const unsure = UNANSWERED.some((one) => this.job.counts[one]) ? " Those that ended as timeout or unknown may have run already." : "";
    return this.ask({
      title: "Run them again?",
      sentence: `A new job sends ${plural(again.count, "request")} again: ${tally(this.job.counts, again.status)}.${unsure}`,
      pairs: [told("It reaches", having(this.rows, again.status))],
      action: `Send ${plural(again.count, "request")}`,
      danger: false,
    }, (job) => failed(job).count === again.count);
  }

  /** What a job that is being ended has before it, and what has failed. */
  left(name) {
    return [
      told(name, having(this.rows, ["pending"]), `${number(this.job.counts.pending)} waiting`),
      told("In flight", having(this.rows, ["sent"]), number(this.job.counts.sent)),
      failures("Failed so far", this.rows),
    ];
  }

  async remove() {
    if (!(await attempt(() => call("DELETE", `/jobs/${this.id}`)))) return;
    notify(`Job ${this.id} was deleted.`);
    location.hash = "#/";
  }

  rerun() {
    return attempt(async () => {
      const { id } = await this.maker.make("/jobs", { rerun: { job: this.id, status: this.again } });
      location.hash = `#/jobs/${id}`;
    });
  }
}

function failed({ counts }) {
  const status = FAILED.filter((one) => counts[one]);
  return { status, count: status.reduce((sum, one) => sum + counts[one], 0) };
}

/** Why each action cannot be done now; "" when it can. */
export function impossible(job) {
  const ended = job.finishedAt ? "The job has ended." : stopping(job) ? "The job is ending." : "";
  const paused = job.status === "paused";
  const closed = job.gateStatus === "closed";
  const waiting = job.status === "pending" && Boolean(job.startAt);
  return {
    pause: ended || (closed ? "It waits at a closed gate." : paused ? "It is paused." : ""),
    resume: ended || (closed ? "Its gate is closed: see Next wave." : paused ? "" : "It is not paused."),
    next: ended || (closed ? "" : "No gate of it is closed."),
    start: ended || (waiting ? "" : paused ? "It is paused: see Resume." : "It has started."),
    cancel: ended,
    rerun: !job.finishedAt ? "The job has not ended." : job.errorCount > 0 ? "" : "Nothing of it failed.",
    force: job.finishedAt ? ended : job.counts.sent > 0 ? "" : "Nothing of it is in flight.",
    remove: "",
  };
}
