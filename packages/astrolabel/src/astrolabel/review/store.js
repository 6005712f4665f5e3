// The tables of labels, predictions and truth: columns of typed arrays, rows by index.
const $ = id => document.getElementById(id);
const ARRAYS = {i4: Int32Array, i2: Int16Array, u1: Uint8Array, f4: Float32Array, f8: Float64Array};
const layers = {};
const OTHERS = ["predictions", "truth"];

async function unpack(kind, packed) {
  const text = atob(packed.data), raw = new Uint8Array(text.length);
  for (let k = 0; k < raw.length; k++) raw[k] = text.charCodeAt(k);
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const layer = {kind, n: packed.n, cols: {}, texts: {}, made: [], gone: new Uint8Array(packed.n), shown: new Uint8Array(packed.n).fill(1)};
  for (const c of packed.columns) {
    layer.cols[c.name] = new ARRAYS[c.kind](bytes, c.at, c.length);
    if (c.texts) layer.texts[c.name] = c.texts;
  }
  packed.data = null;
  layer.fields = Object.keys(layer.cols).filter(name => name.startsWith("attr.")).map(name => name.slice(5));
  layer.names = layer.texts["attr.flags"] ? layer.texts["attr.flags"].map(text => JSON.parse(text)) : [];
  layers[kind] = layer;
}
// Labels that corrections make have plain arrays as columns; the rest of the page sees no difference.
layers.made = {kind: "made", n: 0, cols: {id: [], cat: [], ignore: [], frame: [], image: [], area: [], box: []},
  texts: {}, made: [], gone: [], shown: [], fields: [], names: []};
function addMade(label) {
  const m = layers.made, i = m.n++;
  for (const name of ["id", "cat", "ignore", "frame", "image", "area"]) m.cols[name].push(label[name]);
  m.cols.box.push(...label.box); m.made.push(label); m.gone.push(0); m.shown.push(1);
  return {L: m, i};
}
const same = (a, b) => !!a && !!b && a.L === b.L && a.i === b.i;
const col = (one, name) => { const c = one.L.cols[name]; return c === undefined ? undefined : c[one.i]; };
const boxOf = ({L, i}) => [L.cols.box[4 * i], L.cols.box[4 * i + 1], L.cols.box[4 * i + 2], L.cols.box[4 * i + 3]];
const isLabel = one => one.L.kind === "labels" || one.L.kind === "made";
function attr(one, name) {
  if (one.L.kind === "made") return one.L.made[one.i].attr[name] ?? null;
  const value = col(one, "attr." + name), texts = one.L.texts["attr." + name];
  if (texts) return value < 0 ? null : texts[value];
  return value === undefined || Number.isNaN(value) ? null : value;
}
function flagsOf(one) {
  if (one.L.kind === "made") return one.L.made[one.i].attr.flags || [];
  const value = col(one, "attr.flags");
  return value === undefined || value < 0 ? [] : one.L.names[value];
}
function number(one, name) { // of a column or an attribute; NaN where there is none
  const own = col(one, name), value = own === undefined || Number.isNaN(own) ? attr(one, name) : own;
  return typeof value === "number" ? value : NaN;
}
function ringsOf({L, i}, each) { // each(points, first, last): pairs of x and y from the box's corner
  if (L.kind === "made") { for (const ring of L.made[i].rings) each(ring, 0, ring.length / 2); return; }
  const {rings_of, rings, points} = L.cols;
  for (let r = rings_of[i]; r < rings_of[i + 1]; r++) each(points, rings[r], rings[r + 1]);
}
function inside(one, x, y) { // a place on the coadd as shown
  const b = boxOf(one);
  if (x < b[0] || x > b[2] || y < b[1] || y > b[3]) return false;
  const u = x - b[0], v = y - b[1];
  let odd = false;
  ringsOf(one, (p, first, last) => {
    for (let k = first, j = last - 1; k < last; j = k++) {
      const yk = p[2 * k + 1], yj = p[2 * j + 1];
      if ((yk > v) !== (yj > v) && u < p[2 * k]) odd = !odd; // sides are horizontal or vertical
    }
  });
  return odd;
}
function labelAt(x, y) { // the smallest one there; a prediction or a true source where no label is
  for (const kinds of [$("labels").checked ? ["labels", "made"] : [], OTHERS.filter(k => $(k).checked)]) {
    let best = null;
    for (const kind of kinds) {
      const L = layers[kind];
      if (!L) continue;
      for (let i = 0; i < L.n; i++) {
        if (L.cols.frame[i] !== frameIndex || !L.shown[i]) continue;
        if (best && L.cols.area[i] >= col(best, "area")) continue;
        if (inside({L, i}, x, y)) best = {L, i};
      }
    }
    if (best) return best;
  }
  return null;
}
function findLabel(id) {
  for (const kind of ["made", "labels"]) {
    const L = layers[kind];
    for (let i = 0; i < L.n; i++) if (L.cols.id[i] === id && !L.gone[i]) return {L, i};
  }
  return null;
}
