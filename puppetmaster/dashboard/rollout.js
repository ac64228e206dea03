// Waves and gates in numbers and words: where each wave ends, and what may fail before its gate.

import { number, seconds } from "./words.js";

/** The numbers of requests at which each wave ends, from what was given: `[1, "10%", "100%"]`. */
export function waveEnds(given, total) {
  const ends = given.map((one) => typeof one === "string"
    ? Math.max(1, Math.ceil(Number(((total * parseFloat(one)) / 100).toFixed(9)))) : one);
  return [...new Set([...ends.map((end) => Math.min(end, total)), total])].sort((a, b) => a - b);
}

/** How many requests each wave has. */
export function waveSizes(given, total) {
  return waveEnds(given, total).map((end, index, ends) => end - (ends[index - 1] ?? 0));
}

/** Where the open wave of a job ends: the requests behind that wait for their wave. */
export function openEnd(job) {
  return job.waves ? waveEnds(job.waves, job.totalCount)[(job.wave ?? 1) - 1] ?? job.totalCount : job.totalCount;
}

/** The largest number of failures among `size` that a limit of `percent` lets pass. */
function allowed(percent, size) {
  let most = Math.ceil((percent * size) / 100);
  while (most * 100 > percent * size) most -= 1;
  return most;
}

/** What may fail before a gate behind a wave of `size`: "0 may fail", "2 may fail (5%)". */
export function gateLimit(gate, size) {
  const errors = gate?.errors ?? 0;
  if (typeof errors !== "string") return `${number(errors)} may fail`;
  return `${number(allowed(parseFloat(errors), size))} may fail (${errors})`;
}

/** The gates behind waves of these sizes in a sentence. */
export function gateRule(gate, sizes) {
  const { errors = 0, soak = 0, onFail = "pause" } = gate ?? {};
  const percent = typeof errors === "string" && errors !== "0%";
  const numbers = percent ? ` (${sizes.map((size) => number(allowed(parseFloat(errors), size))).join(", ")})` : "";
  const limit = percent || Number(errors) > 0 ? `at most ${errors} of the wave failed${numbers}` : "none of the wave failed";
  return `${limit}; else the job ${onFail === "abort" ? "is aborted" : "pauses"}${soak ? `. Then ${seconds(soak)} of rest` : ""}`;
}
