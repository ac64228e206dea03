// JSON whose numbers keep their text. JavaScript would make 9007199254740993 into ..992 and 1.0 into 1.

const SPACE = /[ \t\n\r]*/y;
const STRING = /"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\x00-\x1f]*)*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const LEAST = -(2n ** 63n);
const MOST = 2n ** 63n - 1n;
// What the gateway writes has no spaces. Few answers hold such a number: the others take the fast way.
const ODD = /[:[,]-?(?:\d[\d.]{15}|\d+(?:\.\d+)?[eE]|\d+\.\d*0[,\]}])/;

/** A number that JavaScript would write in another way. */
export class Exact {
  constructor(text) {
    this.text = text;
  }

  toString() {
    return this.text;
  }

  /** For JSON.stringify. A browser without rawJSON shows it in quotes: better than other digits. */
  toJSON() {
    return JSON.rawJSON?.(this.text) ?? this.text;
  }
}

/** JSON as one would type it, whose numbers keep their text in every browser. */
export function write(value) {
  // No text that came over the bus has \0 in it.
  const exact = function exact(key, one) {
    return this[key] instanceof Exact ? `\0${this[key].text}\0` : one;
  };
  return JSON.stringify(value, exact, 2).replace(/"\\u0000(.*?)\\u0000"/g, "$1");
}

/** What is wrong with a text, and where in it. */
export class JsonFault extends Error {
  constructor(message, at) {
    super(message);
    this.at = at;
  }
}

/** The value of an answer of the API. */
export function parse(text) {
  return ODD.test(text) ? read(text) : JSON.parse(text);
}

/** The value in `text`. Throws JsonFault; `note(fault)` hears of what is JSON, and would arrive as something else. */
export function read(text, note = () => {}) {
  let at = 0;
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found) at += found.length;
    return found;
  };
  const expected = (what) => {
    take(SPACE);
    throw new JsonFault(`expected ${what}, ${at < text.length ? `found ${text.slice(at, at + 1)}` : "but it ends here"}`, at);
  };
  const sign = (one) => {
    take(SPACE);
    if (text[at] !== one) return false;
    at += 1;
    return true;
  };
  const several = (end, member) => {
    at += 1;
    if (sign(end)) return;
    do member(); while (sign(","));
    if (!sign(end)) expected(`, or ${end}`);
  };
  const object = () => {
    const found = {};
    several("}", () => {
      take(SPACE);
      const from = at;
      const name = JSON.parse(take(STRING) ?? expected("a name in double quotes"));
      if (Object.hasOwn(found, name)) note(new JsonFault(`"${name}" stands twice in one object: only one of them would arrive`, from));
      if (!sign(":")) expected(": behind the name");
      // Not an assignment: it would take the name __proto__ for something else.
      Object.defineProperty(found, name, { value: value(), configurable: true, enumerable: true, writable: true });
    });
    return found;
  };
  const list = () => {
    const found = [];
    several("]", () => found.push(value()));
    return found;
  };
  const value = () => {
    take(SPACE);
    if (text[at] === "{") return object();
    if (text[at] === "[") return list();
    const from = at;
    const plain = take(STRING) ?? take(WORD);
    if (plain) return JSON.parse(plain);
    const digits = take(NUMBER) ?? expected("a value");
    const fault = arrives(digits);
    if (fault) note(new JsonFault(fault, from));
    return String(Number(digits)) === digits ? Number(digits) : new Exact(digits);
  };
  const found = value();
  take(SPACE);
  if (at < text.length) expected("the end");
  return found;
}

/** Why a number would not arrive as it is written; "" when it would. */
function arrives(digits) {
  if (/^-?\d+$/.test(digits)) {
    const whole = BigInt(digits);
    return whole < LEAST || whole > MOST ? `${digits} does not fit into 64 bits, which is all that the bus carries` : "";
  }
  const near = Number(digits);
  if (!Number.isFinite(near)) return `${digits} is larger than a number can be`;
  if (worth(digits) === worth(String(near))) return "";
  return `${digits} would arrive as ${near}: write that, or put it in quotes`;
}

/** The same text for the same number: 1.50, 15e-1 and 0.15e1 are one. */
function worth(digits) {
  const [, minus, whole, part = "", power = "0"] = digits.match(/^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/);
  const all = (whole + part).replace(/^0+/, "");
  const short = all.replace(/0+$/, "");
  return short ? `${minus}${short}e${Number(power) - part.length + all.length - short.length}` : "0";
}
