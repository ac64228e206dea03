// The requests of each gateway of a job, in their order: its steps, where it gets them one after the other.

import { FAILURES } from "./words.js";

export class Steps {
  /** `size` is how many requests the job has; a step is known by its place among them. */
  constructor(size) {
    this.of = new Array(size); // by place: the places of all steps of the same gateway
    this.gateways = new Map();
    this.count = 0;
  }

  add(place, name) {
    const steps = this.gateways.get(name) ?? [];
    if (!steps.length) this.gateways.set(name, steps);
    // They come in pages and over the WebSocket, in any order.
    steps.splice(steps.findLastIndex((one) => one < place) + 1, 0, place);
    this.of[place] = steps;
    this.count += 1;
  }

  /** Whether a gateway has more than one. */
  get several() {
    return this.gateways.size < this.count;
  }
}

/** Which of a gateway's requests says how it stands: the first that failed, else the first not resolved, else the last. */
export function deciding(requests) {
  const first = requests.findIndex(({ __request: { status } }) => FAILURES.includes(status));
  if (first >= 0) return first;
  const next = requests.findIndex(({ __request: { status } }) => status !== "resolved");
  return next < 0 ? requests.length - 1 : next;
}
