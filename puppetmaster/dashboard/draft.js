// What stands in the form of a new job, kept until the tab is closed: a reload and Back show it again.

const KEY = "puppetmaster-new-job";
const WAIT_MS = 300;

export class Draft {
  /** `values()` says what stands in the form. */
  constructor(values) {
    this.values = values;
    this.leaving = () => this.flush();
    addEventListener("pagehide", this.leaving);
  }

  /** `{values, started}`: `started` is the job that was made of it. Null where there is none. */
  static found() {
    try {
      const draft = JSON.parse(sessionStorage.getItem(KEY));
      // A new visit after a start begins anew; Back to the form that it was started from does not.
      return draft?.started && !history.state?.draft ? null : draft;
    } catch {
      return null;
    }
  }

  changed() {
    if (!history.state?.draft) history.replaceState({ ...history.state, draft: true }, "");
    this.timer ??= setTimeout(() => this.flush(), WAIT_MS);
  }

  flush() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.keep({ values: this.values() });
  }

  started(id) {
    clearTimeout(this.timer);
    this.timer = null;
    this.keep({ values: this.values(), started: id });
  }

  keep(draft) {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(draft));
    } catch {
      // More than a browser keeps: then it is not kept.
    }
  }

  forget() {
    clearTimeout(this.timer);
    this.timer = null;
    sessionStorage.removeItem(KEY);
  }

  end() {
    this.flush();
    removeEventListener("pagehide", this.leaving);
  }
}
