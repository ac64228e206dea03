// The waves of a job in a strip, with the gates between them.

import { el, icon } from "./dom.js";
import { gateLimit, gateRule, waveSizes } from "./policies.js";
import { moment, number, plural, seconds, utc } from "./words.js";

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
    const said = JSON.stringify([this.rows.version, job.wave, job.gateStatus, job.status, job.openedGates]);
    if (said === this.said) return;
    this.said = said;
    const sizes = waveSizes(job);
    let from = 0;
    const parts = sizes.flatMap((size, index) => {
      const wave = this.wave(job, index, from, from += size);
      return index === 0 ? [wave] : [gate(job, index, sizes[index - 1]), wave];
    });
    const { scrollLeft } = this.strip;
    this.strip.replaceChildren(...parts);
    this.strip.scrollLeft = scrollLeft;
    if (this.seen !== job.wave) this.reveal();
    this.seen = job.wave;
  }

  /** Show the open wave and the gate before it. */
  reveal() {
    const open = this.strip.querySelector("[aria-current]") ?? this.strip.firstElementChild;
    const gateWidth = open.previousElementSibling?.offsetWidth ?? 0;
    this.strip.scrollLeft = Math.max(0, open.offsetLeft - gateWidth);
  }

  wave(job, index, from, to) {
    let done = 0;
    let failed = 0;
    for (let at = from; at < to; at += 1) {
      const inner = this.rows.items[at]?.__request;
      if (inner?.finishedAt) done += 1;
      if (inner?.finishedAt && inner.status !== "resolved") failed += 1;
    }
    const open = job.wave ?? 1;
    const finished = done === to - from;
    const state = finished ? (failed ? "failed" : "done") : index + 1 === open ? "open" : "ahead";
    const words = {
      done: "all resolved", failed: `${number(failed)} failed`,
      open: failed ? `${number(done)} done, ${number(failed)} failed` : `${number(done)} done`, ahead: "waits",
    };
    const meter = el("i", { class: "meter" });
    meter.style.width = `${(done / (to - from)) * 100}%`;
    return el("li", { class: `wave ${state}`, "aria-current": index + 1 === open && !job.finishedAt ? "step" : null },
      el("b", {}, `Wave ${index + 1}`), el("span", {}, plural(to - from, "request")), el("span", { class: "muted" }, words[state]), meter);
  }
}

/** The gate in front of the wave at `index`; behind it lies one of `size` requests. */
function gate(job, index, size) {
  const open = job.wave ?? 1;
  const here = index === open ? job.gateStatus : null;
  const byHand = job.openedGates?.find((gate) => gate.wave === index);
  const state = byHand ? "opened" : index < open ? "passed" : here ?? "ahead";
  const words = {
    passed: "passed", soak: "resting", closed: "closed", ahead: "gate",
    opened: byHand && `opened by hand over ${plural(byHand.failed, "failure")}`,
  };
  const when = byHand ? ` It did not, and was opened by hand at ${moment(byHand.at)} (${utc(byHand.at)}).` : "";
  return el("li", { class: `gate ${state}`, title: `It opens when ${gateRule(job.gate, [size])}.${when}` },
    icon("gate"), el("b", {}, words[state]), el("span", {}, gateLimit(job.gate, size)),
    job.gate?.soak ? el("span", {}, `rest ${seconds(job.gate.soak)}`) : null);
}
