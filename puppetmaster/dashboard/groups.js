// The cells of the map: which gateways stand together under a heading, and how large a cell may be so that all
// of them are seen at one look.

/** Each heading takes room from the cells: more groups than these are put together. */
const MOST = 12;
/** As many gateways as these need no headings. */
const FEW = 200;
const PITCHES = [22, 20, 18, 16, 14, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3];
const HEADING = 22;
// The end of a name that counts: the last pair of a MAC, a long hexadecimal number, or digits.
const HEX = /(?<=:)[\da-f]{2}$|[\da-f]{8,}$/i;
const DIGITS = /\d+$/;
const MOST_DIGITS = 16;

/**
 * Groups `{title, cells}` of requests that come by id. A cell, `{name, gateways, ids}`, is a gateway with the ids
 * of its requests. They are grouped by wave where there are waves (`ends` says where they end, counted from the
 * id `first`), else by name.
 */
export function groupsOf(requests, first, ends) {
  if (ends?.length > 1) return byWave(requests, first, ends);
  const cells = cellsOf(requests);
  return cells.length > FEW ? byName(cells) : [{ title: "", cells }];
}

/** In the order of creation. */
function cellsOf(requests) {
  const known = new Map();
  for (const { id, __request: { destination: name } } of requests) {
    const cell = known.get(name);
    if (cell) cell.ids.push(id);
    else known.set(name, { name, gateways: 1, ids: [id] });
  }
  return [...known.values()];
}

function byWave(requests, first, ends) {
  const each = Math.ceil(ends.length / MOST);
  const parts = ends.map(() => []);
  let wave = 0;
  for (const request of requests) {
    while (request.id - first >= ends[wave]) wave += 1;
    parts[Math.floor(wave / each)].push(request);
  }
  return parts.map((some, part) => {
    const [from, to] = [part * each + 1, Math.min((part + 1) * each, ends.length)];
    return { title: from < to ? `Waves ${from} to ${to}` : `Wave ${from}`, cells: cellsOf(some) };
  }).filter(({ cells }) => cells.length);
}

/** Together are names that are alike but for their last digits: as few of these as make few groups. */
function byName(cells) {
  const read = cells.map((cell) => ({ cell, ...ending(cell.name) }));
  read.sort((a, b) => (a.head < b.head ? -1 : a.head > b.head ? 1 : a.number - b.number));
  // Whoever counts from 1 has 1 to 1000 together, not 1 to 999.
  const from = read.some(({ number }) => number === 0) ? 0 : 1;
  for (let digits = 2; digits <= MOST_DIGITS; digits += 1) {
    const groups = new Map();
    for (const { cell, head, number, base } of read) {
      const key = `${head} ${Math.floor((number - from) / base ** digits)}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(cell);
      if (groups.size > MOST) break;
    }
    if (groups.size <= MOST) return [...groups.values()].map(titled);
  }
  // They have nothing in common: parts of equal size.
  return split(read.map(({ cell }) => cell), Math.ceil(read.length / MOST)).map(titled);
}

function ending(name) {
  const hex = HEX.exec(name)?.[0];
  const tail = hex ?? DIGITS.exec(name)?.[0] ?? "";
  const base = hex ? 16 : 10;
  return { head: name.slice(0, name.length - tail.length), number: tail ? parseInt(tail, base) : 0, base };
}

function titled(cells) {
  const [from, to] = [cells[0].name, cells.at(-1).name];
  return { title: from === to ? from : `${from} … ${to}`, cells };
}

function split(list, size) {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, part) => list.slice(part * size, (part + 1) * size));
}

/**
 * Where the cells are, `{pitch, columns, height, groups}`: with the largest cells of which all fit into `width` and
 * `room`. Where not even the smallest do, a cell is several gateways. A group has `start`, how many cells stand
 * before it, and `top`.
 */
export function arranged(groups, width, room) {
  const heading = groups.length > 1 ? HEADING : 0;
  const most = groups.reduce((sum, { cells }) => sum + cells.length, 0);
  for (let each = 1; ; each *= 2) {
    const some = each === 1 ? groups : groups.map(({ title, cells }) => ({ title, cells: split(cells, each).map(joined) }));
    for (const pitch of PITCHES) {
      const found = placed(some, pitch, Math.max(1, Math.floor(width / pitch)), heading);
      if (found.height <= room || (each > most && pitch === PITCHES.at(-1))) return found;
    }
  }
}

function placed(groups, pitch, columns, heading) {
  let height = 0;
  let start = 0;
  const found = groups.map((group) => {
    const at = { ...group, start, top: height + heading };
    start += group.cells.length;
    height = at.top + Math.ceil(group.cells.length / columns) * pitch;
    return at;
  });
  return { pitch, columns, height, groups: found };
}

function joined(cells) {
  return { name: cells[0].name, gateways: cells.length, ids: cells.flatMap(({ ids }) => ids) };
}
