// Whom a new job is for, as a part of its form: gateways by their names, or those known ones that fit when it starts.

import { ApiError, call, queryOf } from "./api.js";
import { el, soon, text } from "./dom.js";
import { foldInOrder, read } from "./ranges.js";
import { number, plural, sentence } from "./words.js";

const FEW = 6;
const MOST_BYTES = 5_000_000;
const WAIT_MS = 300;
/** The ways to say whom it is for, and the fields of each. */
const WAYS = {
  names: ["those named below", ["to"]],
  fit: ["known ones that fit", ["selector", "match", "except"]],
  all: ["all that are known", ["except"]],
};
export const LABELS = { by: "Gateways", to: "Destinations", selector: "Labels", match: "Pattern", except: "Without" };
const HELP = {
  selector: "As in Kubernetes: site=north,model!=x,env in (a,b),!retired",
  match: "For names: * stands for anything, ? for a character",
  except: "Names or patterns that are left out, one per line or separated by commas",
};
const words = (said) => said.split(/[\s,;]+/).filter(Boolean);

export class To {
  /** `common` gives the attributes that all fields have, `place` a place for faults; `changed()` is told of files, `shown()` of what was read. */
  constructor({ common, place, changed, shown }) {
    Object.assign(this, { changed, shown, typed: read("") });
    this.by = el("select", common("by"), Object.entries(WAYS).map(([way, [said]]) => el("option", { value: way }, said)));
    this.to = el("textarea", {
      ...common("to", "to-help", "to-said"), rows: "5", class: "code", placeholder: "cg-[001-200]\n00:0c:29:1c:e8:01",
    });
    const input = (name, tag, more) => el(tag, { ...common(name, `${name}-help`), class: "code", ...more });
    this.selector = input("selector", "input", { type: "text", placeholder: "site=north" });
    this.match = input("match", "input", { type: "text", placeholder: "cg-1*" });
    this.except = input("except", "textarea", { rows: "2", placeholder: "cg-007" });
    this.said = el("div", { class: "said", id: "to-said", role: "status" });
    this.file = el("input", { type: "file", hidden: true, multiple: true });
    this.fileSaid = el("span", { role: "status" });
    this.file.addEventListener("change", () => this.take(this.file.files));
    const field = (name, help) => el("div", { class: "field" }, el("label", { for: name }, LABELS[name]), this[name], help, place(name));
    const by = field("by", null);
    const about = (name) => field(name, el("span", { class: "muted", id: `${name}-help` }, HELP[name]));
    this.fields = {
      to: field("to", [
        el("span", { class: "muted", id: "to-help" }, "Names or ranges such as cg-[001-200], one per line or separated by commas"),
        el("span", { class: "muted of-file" }, el("button", { type: "button", onclick: () => this.file.click() }, "Add a file"), this.file,
          el("span", {}, "or drop one here."), this.fileSaid)]),
      selector: about("selector"), match: about("match"), except: about("except"),
    };
    this.element = el("div", { class: "whom" }, by, ...Object.values(this.fields), this.said);
    this.element.addEventListener("input", () => soon(this.reread ??= () => this.show()));
  }

  /** A file may be dropped anywhere in `form`: beside it, a browser would leave the page. */
  dropped(form) {
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      form.classList.toggle("over", event.type === "dragover");
    };
    for (const name of ["dragover", "dragleave", "drop"]) form.addEventListener(name, over);
    form.addEventListener("drop", (event) => this.take(event.dataTransfer?.files ?? []));
  }

  /** Add the destinations in these files to those that are there. */
  async take(files) {
    for (const file of [...files]) {
      const said = file.size > MOST_BYTES ? null : await file.text().catch(() => null);
      if (said === null || said.includes("\0")) {
        text(this.fileSaid, `${file.name} was not read: expected a text with the names of gateways, at most 5 MB.`);
        continue;
      }
      const before = this.to.value.trimEnd();
      this.by.value = "names";
      this.to.value = before + (before && "\n") + said.trim();
      this.show();
      text(this.fileSaid, `${plural(read(said).names.length, "destination")} from ${file.name}.`);
      this.changed();
    }
    this.file.value = "";
  }

  /** Without these. */
  leaveOut(names) {
    if (this.by.value === "names") this.to.value = foldInOrder(this.typed.names.filter((name) => !names.includes(name))).join("\n");
    // A name as a pattern: what would stand for other letters stands for itself.
    else this.except.value = [...words(this.except.value), ...names.map((name) => name.replace(/[*?[]/g, "[$&]"))].join("\n");
    this.show();
  }

  /** Other values stand in the fields. */
  filled() {
    text(this.fileSaid, "");
    this.show();
  }

  /** What is wrong with what is typed, as far as it is seen here. */
  get faults() {
    return this.by.value === "names" ? this.typed.faults : [];
  }

  /** The field at which something is said that is wrong with all of it. */
  get whole() {
    return { names: "to", fit: "selector", all: "by" }[this.by.value];
  }

  /** `destination`, as the API takes it; `fault(field, message)` is told what is wrong with it. */
  read(fault) {
    this.show();
    const way = this.by.value;
    if (way === "names") {
      const { names, faults } = this.typed;
      for (const one of faults.slice(0, FEW)) fault("to", one);
      if (!names.length && !faults.length) fault("to", "Name at least one gateway.");
      return names;
    }
    const { selector, match } = this.wanted();
    if (way === "fit" && !selector && !match) fault("selector", "Say which: by labels, by a pattern, or by both.");
    const except = words(this.except.value);
    return {
      ...way === "all" ? { all: true } : {}, ...selector ? { selector } : {}, ...match ? { match } : {}, ...except.length ? { except } : {},
    };
  }

  /** What is looked for among the known ones, as a query. */
  wanted() {
    const fit = this.by.value === "fit";
    return { selector: fit ? this.selector.value.trim() : "", match: fit ? this.match.value.trim() : "" };
  }

  show() {
    const way = this.by.value;
    for (const [name, field] of Object.entries(this.fields)) field.hidden = !WAYS[way][1].includes(name);
    if (way === "names") this.tell(this.named());
    else this.seek();
    this.shown();
  }

  tell(lines) {
    this.sought = null;
    this.said.replaceChildren(...lines);
  }

  named() {
    const { names, twice, faults } = this.typed = read(this.to.value);
    const lines = [el("b", {}, plural(names.length, "destination"))];
    if (names.length > 1) lines.push(el("span", { class: "muted" }, ` ${names[0]} … ${names.at(-1)}`));
    if (twice.length) lines.push(el("p", { class: "warning" }, `${plural(twice.length, "duplicate")}, each taken once: ${some(twice)}`));
    for (const fault of faults.slice(0, FEW)) lines.push(el("p", { class: "fault" }, fault));
    return lines;
  }

  /** Say how many of the known ones fit as it is typed. */
  seek() {
    const wanted = this.wanted();
    const query = queryOf({ ...wanted, limit: FEW });
    const out = words(this.except.value).length > 0;
    const sought = `${query} ${out}`;
    if (this.sought === sought) return;
    if (this.by.value === "fit" && !wanted.selector && !wanted.match) {
      this.tell([el("span", { class: "muted" }, "Those that fit are counted here, and are looked for again when the job starts.")]);
      return;
    }
    this.sought = sought;
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const lines = await found(query, out);
      if (this.sought === sought) this.said.replaceChildren(...lines);
    }, WAIT_MS);
  }
}

/** What stands in the fields for a target of the API. */
export function typedTo({ all, selector = "", match = "", except = [] }) {
  return { by: all ? "all" : "fit", selector, match, except: except.join("\n") };
}

/** What is said of the known ones that fit; `out`: whether some may be left out. */
async function found(query, out) {
  try {
    const { data, total } = await call("GET", `/gateways${query}`);
    if (!total) return [el("p", { class: "warning" }, "No known gateway fits.")];
    const names = data.map(({ name }) => name).join(", ") + (total > data.length ? ` and ${number(total - data.length)} more` : "");
    return [
      el("b", {}, plural(total, "known gateway")), el("span", { class: "muted" }, ` ${names}`),
      out ? el("p", { class: "muted" }, "The dry run says how many remain without those that are left out.") : "",
    ];
  } catch (error) {
    // What is typed may be half of a selector.
    if (!(error instanceof ApiError)) return [el("p", { class: "muted" }, error.message)];
    return error.errors.map(({ path, message }) => el("p", { class: "fault" }, `${LABELS[path] ?? path}: ${sentence(message)}`));
  }
}

function some(names) {
  return names.slice(0, FEW).join(", ") + (names.length > FEW ? ` and ${names.length - FEW} more` : "");
}
