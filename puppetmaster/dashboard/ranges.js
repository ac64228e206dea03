// Destinations as they are typed: `cg-[001-200]` stands for two hundred gateways.

const MOST = 100_000;
const RANGE = /\[(0x)?([0-9a-fA-F]+)-(0x)?([0-9a-fA-F]+)\]/g;
const FORBIDDEN = /[[\]/?#+\s\x00-\x1f\x7f]/;
const padded = (digits) => digits.length > 1 && digits.startsWith("0");

/** The names a pattern stands for, the last range counting fastest. Throws Error with a sentence. */
export function expand(pattern) {
  const pieces = [];
  let end = 0;
  for (const match of pattern.matchAll(RANGE)) {
    pieces.push([pattern.slice(end, match.index)], numbers(match));
    end = match.index + match[0].length;
  }
  pieces.push([pattern.slice(end)]);
  if (pieces.some((piece, index) => index % 2 === 0 && FORBIDDEN.test(piece[0])))
    throw new Error(`${pattern}: expected a name or a range such as cg-[001-200], without / ? # +`);
  const count = pieces.reduce((product, piece) => product * piece.length, 1);
  if (count > MOST) throw new Error(`${pattern}: expected at most ${MOST} names, got ${count}`);
  return pieces.reduce((heads, tails) => heads.flatMap((head) => tails.map((tail) => head + tail)), [""]);
}

function numbers([whole, hexFirst, first, hexLast, last]) {
  if (Boolean(hexFirst) !== Boolean(hexLast)) throw new Error(`${whole}: expected 0x before both bounds or none`);
  const digits = first + last;
  const hex = Boolean(hexFirst) || /[a-f]/i.test(digits);
  const upper = /[A-F]/.test(digits);
  if (upper && /[a-f]/.test(digits)) throw new Error(`${whole}: expected digits of one case`);
  const keep = padded(first) || padded(last);
  if (keep && first.length !== last.length)
    throw new Error(`${whole}: expected bounds of equal length, since one begins with 0`);
  const from = parseInt(first, hex ? 16 : 10);
  const to = parseInt(last, hex ? 16 : 10);
  if (to < from) throw new Error(`${whole}: expected the smaller bound first`);
  if (to - from >= MOST) throw new Error(`${whole}: expected at most ${MOST} names, got ${to - from + 1}`);
  return Array.from({ length: to - from + 1 }, (_, index) => {
    let word = (from + index).toString(hex ? 16 : 10);
    if (upper) word = word.toUpperCase();
    return keep ? word.padStart(first.length, "0") : word;
  });
}

/** Names as patterns, in their order: each run of numbers that follow one another is one. */
export function foldInOrder(names) {
  const runs = [];
  for (const name of names) {
    const [, head, digits] = /^(.*?)(\d*)$/s.exec(name);
    const last = runs.at(-1);
    const follows = digits !== "" && last?.head === head && last.to.length === digits.length && digits.length < 16
      && Number(digits) === Number(last.to) + 1;
    if (follows) last.to = digits;
    else runs.push({ name, head, from: digits, to: digits });
  }
  return runs.map(({ name, head, from, to }) => (from === to ? name : `${head}[${from}-${to}]`));
}

/** What was pasted: `{names, twice, faults}`; white space, commas and semicolons separate. */
export function read(pasted) {
  const seen = new Set();
  const twice = new Set();
  const faults = [];
  for (const word of pasted.split(/[\s,;]+/)) {
    if (word === "") continue;
    try {
      for (const name of expand(word)) (seen.has(name) ? twice : seen).add(name);
    } catch (error) {
      faults.push(error.message);
    }
  }
  return { names: [...seen], twice: [...twice], faults };
}

/** Names as patterns, the other way round: each run of numbers that follow one another is one. */
export function fold(names) {
  const runs = [];
  for (const name of [...names].sort()) {
    const [, head, digits, tail] = /^(.*?)(\d*)(\D*)$/s.exec(name);
    const last = runs.at(-1);
    const follows = digits !== "" && last && last.head === head && last.tail === tail && last.to.length === digits.length
      && Number(digits) === Number(last.to) + 1 && Number.isSafeInteger(Number(digits));
    if (follows) last.to = digits;
    else runs.push({ name, head, tail, from: digits, to: digits });
  }
  return runs.map(({ name, head, tail, from, to }) => (from === to ? name : `${head}[${from}-${to}]${tail}`));
}
