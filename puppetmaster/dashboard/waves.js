// The waves of a job in a strip, with the gates between them.

import { el, icon } from "./dom.js";
import { gateLimit, gateRule, waveSizes } from "./policies.js";
import { FAILED, FAILURES, moment, number, plural, seconds, utc } from "./words.js";

/** "8 failures", or gateways that failed where a gate counts those. */
export function overFailures({ failed }, { stops }) {
  return stops ? `${plural(failed, "gateway")} that failed` : plural(failed, "failure");
}

export class Waves {
  constructor(rows) {
    this.rows = rows;
    // A strip that is longer than the screen is moved by its own keys.
    this.strip = el("ol", { class: "waves", tabindex: "0", "aria-label": "Waves and their gates" });
    this.element = el("section", { hidden: true, "aria-label": "Waves" }, this.strip);
  }

  update(job) {
    this.element.hidden = !job.waves;
    if (!job.waves) return;
    const counted = this.sizes(job);
    const said = JSON.stringify([this.rows.version, job.wave, job.gateStatus, job.status, job.openedGates]);
    if (said === this.said) return;
    this.said = said;
    const sizes = waveSizes(job);
    let from = 0;
    const parts = sizes.flatMap((size, index) => {
      const wave = this.wave(job, index, from, from += size);
      return index === 0 ? [wave] : [gate(job, index, counted[index - 1], this.rows), wave];
    });
    const { scrollLeft } = this.strip;
    this.strip.replaceChildren(...parts);
    this.strip.scrollLeft = scrollLeft;
    if (this.seen !== job.wave) this.reveal();
    this.seen = job.wave;
  }

  /** How much each wave has of what gates count: gateways where a failure ends the steps of one, else requests. */
  sizes(job) {
    const { rows } = this;
    const sizes = waveSizes(job);
    if (!rows.stops || !rows.inGateways) return sizes;
    // This does not change any more.
    this.counted ??= sizes.map((size, index) => rows.between(job.waveEnds[index] - size, job.waveEnds[index]).length);
    return this.counted;
  }

  /** Show the open wave and the gate before it. */
  reveal() {
    const open = this.strip.querySelector("[aria-current]") ?? this.strip.firstElementChild;
    const gateWidth = open.previousElementSibling?.offsetWidth ?? 0;
    this.strip.scrollLeft = Math.max(0, open.offsetLeft - gateWidth);
  }

  wave(job, index, from, to) {
    const { size, done, failed, bad, fails } = this.tally(from, to);
    const open = job.wave ?? 1;
    const state = done === size ? (bad ? "failed" : "done") : index + 1 === open ? "open" : "ahead";
    const words = {
      done: "all resolved", failed: failed ? `${fails} failed` : `${number(bad)} not resolved`,
      open: failed ? `${number(done)} done, ${fails} failed` : `${number(done)} done`, ahead: "waits",
    };
    const meter = el("i", { class: "meter" });
    meter.style.width = `${(done / size) * 100}%`;
    return el("li", { class: `wave ${state}`, "aria-current": index + 1 === open && !job.finishedAt ? "step" : null },
      el("b", {}, `Wave ${index + 1}`), el("span", {}, plural(size, this.rows.inGateways ? "gateway" : "request")), el("span", { class: "muted" }, words[state]), meter);
  }

  /** How many of a wave there are, are done, have failed as its gate counts that, and are not all resolved. */
  tally(from, to) {
    const { rows } = this;
    if (!rows.inGateways) {
      const ended = rows.items.slice(from, to).filter((one) => one?.__request.finishedAt);
      const failed = ended.filter((one) => one.__request.status !== "resolved").length;
      return { size: to - from, done: ended.length, failed, bad: failed, fails: number(failed) };
    }
    const all = rows.between(from, to);
    const ended = all.filter((steps) => steps.every((one) => one.__request.finishedAt));
    const bad = ended.filter((steps) => steps.some((one) => one.__request.status !== "resolved")).length;
    const counted = rows.stops ? FAILURES : FAILED;
    const failed = all.flat().filter((one) => counted.includes(one.__request.status)).length;
    return { size: all.length, done: ended.length, failed, bad, fails: rows.stops ? number(failed) : plural(failed, "request") };
  }
}

/** The gate in front of the wave at `index`; behind it lies one of `size`, as gates count. */
function gate(job, index, size, rows) {
  const open = job.wave ?? 1;
  const here = index === open ? job.gateStatus : null;
  const byHand = job.openedGates?.find((gate) => gate.wave === index);
  const state = byHand ? "opened" : index < open ? "passed" : here ?? "ahead";
  const words = {
    passed: "passed", soak: "resting", closed: "closed", ahead: "gate",
    opened: byHand && `opened by hand over ${overFailures(byHand, rows)}`,
  };
  const when = byHand ? ` It did not, and was opened by hand at ${moment(byHand.at)} (${utc(byHand.at)}).` : "";
  return el("li", { class: `gate ${state}`, title: `It opens when ${gateRule(job.gate, [size], rows.stops)}.${when}` },
    icon("gate"), el("b", {}, words[state]), el("span", {}, gateLimit(job.gate, size, !rows.stops && rows.stepwise ? "request" : "")),
    job.gate?.soak ? el("span", {}, `rest ${seconds(job.gate.soak)}`) : null);
}
