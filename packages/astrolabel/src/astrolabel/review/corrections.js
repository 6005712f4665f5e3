// Corrections: made with keys and buttons, undone, and saved: as a download, or by the server as
// they are made. Then what the mouse, fingers and keys do, and the start.
const store = `astrolabel-review:${D.file}:${D.digest}`;
let log = [], done = new Set(), splitting = false, busy = false;
const say = text => { $("message").textContent = text; };

function placeOf(one) { // centre of the box in the pixels of its image, as bbox counts
  const b = boxOf(one), x = (b[0] + b[2]) / 2, y = (b[1] + b[3]) / 2;
  const place = {id: col(one, "id"), ...inImage(tileAt(one, x, y), x, y)}, sky = radec(x, y, D.frames[col(one, "frame")]);
  if (sky) [place.ra, place.dec] = sky;
  return place;
}
function tileAt(one, x, y) {
  const tiles = D.frames[col(one, "frame")].tiles, n = col(one, "image");
  const holds = t => x >= t.x && y >= t.y && x < t.x + D.images[t.image].width && y < t.y + D.images[t.image].height;
  return tiles.find(t => t.image === n) || tiles.find(holds) || tiles[0];
}
function inImage(t, x, y) {
  const {file_name, height} = D.images[t.image], up = D.frames.find(f => f.tiles.includes(t)).upright;
  return {image: file_name, x: x - t.x, y: up ? height - (y - t.y) : y - t.y};
}
async function correct(action, cat, peak) {
  const one = chosen;
  if (!one || one.L.gone[one.i] || busy) return;
  const entry = {action, time: new Date().toISOString(), who: $("who").value, ...placeOf(one)};
  const undo = {one, cat: col(one, "cat"), ignore: col(one, "ignore"), gone: [], made: [], kind: one.L.kind + one.i};
  if (!isLabel(one)) { if (action !== "accept") return; addOther(entry, undo); }
  if (action === "class") entry.class = D.categories[cat].name;
  if (action === "reject") undo.gone.push(one);
  if (action === "split") { entry.peak = peak; undo.gone.push(one); }
  if (action === "merge") {
    const rest = also.filter(other => !same(other, one) && col(other, "image") === col(one, "image"));
    if (!rest.length) return say("Merge: first hold a label with C, or click the others with Shift");
    entry.with = rest.map(placeOf); undo.gone.push(...rest); held = [];
  }
  const answer = D.serve ? await send("correct", entry, action === "split" || action === "merge") : {};
  if (!answer) return;
  if (answer.made) { if (action === "merge") undo.gone.push(one); undo.made = answer.made.map(addMade); }
  else if (action === "split") { undo.gone.pop(); say("Split: written down; astrolabel apply makes the fit"); }
  if (action === "class") { one.L.cols.cat[one.i] = cat; one.L.cols.ignore[one.i] = 0; }
  for (const gone of undo.gone) gone.L.gone[gone.i] = 1;
  log.push({entry, undo}); done.add(undo.kind);
  remember();
  if (undo.made.length) choose(undo.made[0], false);
  else if (action === "class") choose(one); else next(0);
}
function addOther(entry, undo) { // a prediction or a true source becomes a label
  const {one} = undo, [x0, y0] = boxOf(one), b = boxOf(one), t = tileAt(one, (b[0] + b[2]) / 2, (b[1] + b[3]) / 2);
  entry.action = "add"; entry.class = (D.categories[col(one, "cat")] || D.categories[0]).name;
  entry.outline = [];
  const rings = [];
  ringsOf(one, (p, first, last) => {
    const ring = [], mine = [];
    for (let k = first; k < last; k++) { const at = inImage(t, x0 + p[2 * k], y0 + p[2 * k + 1]); ring.push(at.x, at.y); mine.push(p[2 * k], p[2 * k + 1]); }
    entry.outline.push(ring); rings.push(mine);
  });
  if (!D.serve) undo.made = [addMade({id: -log.length - 1, cat: classIndex[entry.class], ignore: 0, frame: col(one, "frame"), image: t.image,
    area: col(one, "area"), box: b, rings, attr: {}})];
  undo.gone.push(one);
}
function beginSplit() {
  if (!chosen || !isLabel(chosen)) return;
  splitting = true; canvas.focus();
  say("Split: click where the other source is (Enter: the middle of the view; Esc: not after all)");
}
function endSplit() { if (splitting) say(""); splitting = false; }
function splitAt(x, y) {
  const at = inImage(tileAt(chosen, x, y), x, y);
  endSplit(); correct("split", null, [at.x - 0.5, at.y - 0.5]);
}
async function send(what, body, slow) { // the answer; null, with a message, where there is none
  busy = true; if (slow) say("fitting …");
  try {
    const response = await fetch(what, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    say(answer.note || "");
    return answer;
  } catch (error) { say(`Not saved: ${error.message}`); return null; } finally { busy = false; }
}
async function undoLast() {
  if (busy || (D.serve && !await send("undo", {who: $("who").value}))) return;
  const last = log.pop();
  if (!last) { if (D.serve) location.reload(); return; }
  if (!last.undo) return remember(); // of an earlier visit, and not drawn in this one
  const {one, cat, ignore, gone, made, kind} = last.undo;
  one.L.cols.cat[one.i] = cat; one.L.cols.ignore[one.i] = ignore;
  for (const other of [one, ...gone]) other.L.gone[other.i] = 0;
  for (const other of made) other.L.gone[other.i] = 1;
  done.delete(kind); remember(); choose(one);
}
function remember() {
  const counts = {};
  log.forEach(({entry}) => { counts[entry.action] = (counts[entry.action] || 0) + 1; });
  $("done").textContent = Object.entries(counts).map(([k, n]) => `${n} ${k}`).join(", ") || "none";
  if (!D.serve) try { localStorage.setItem(store, JSON.stringify(log.map(one => one.entry))); } catch (_) { /* a private window */ }
  filter();
}
function restore() { // corrections of an earlier visit: the server's, or those that are in this browser only
  if (D.serve) {
    const gone = new Set(D.serve.gone), L = layers.labels;
    for (let i = 0; i < L.n; i++) if (gone.has(L.cols.id[i])) L.gone[i] = 1;
    for (const label of D.serve.made) { const one = addMade(label); if (label.attr.reviewed) done.add("made" + one.i); }
    $("save").hidden = true; $("apply").innerHTML = "Each correction is in <code></code> as it is made"; $("apply").querySelector("code").textContent = D.serve.log;
    return;
  }
  let kept = [];
  try { kept = JSON.parse(localStorage.getItem(store)) || []; } catch (_) { /* a private window */ }
  for (const entry of kept) {
    const one = findLabel(entry.id), others = (entry.with || []).map(p => findLabel(p.id)).filter(Boolean);
    if (!one || entry.action === "add") { log.push({entry, undo: null}); continue; }
    const undo = {one, cat: col(one, "cat"), ignore: col(one, "ignore"), gone: entry.action === "reject" ? [one] : others, made: [], kind: one.L.kind + one.i};
    if (entry.action === "class") { one.L.cols.cat[one.i] = classIndex[entry.class]; one.L.cols.ignore[one.i] = 0; }
    for (const gone of undo.gone) gone.L.gone[gone.i] = 1;
    log.push({entry, undo}); done.add(undo.kind);
  }
  if (kept.length) say(`${kept.length} corrections of an earlier visit: S saves them`);
}
function save() {
  const text = JSON.stringify({file: D.file, corrections: log.map(one => one.entry)}, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "corrections.json"; link.click(); URL.revokeObjectURL(link.href);
}
const pointers = new Map();
let moved = 0, apart = 0, asking = 0;
canvas.onpointerdown = e => { canvas.setPointerCapture(e.pointerId); pointers.set(e.pointerId, [e.offsetX, e.offsetY]); moved = 0; apart = 0; };
canvas.onpointermove = e => {
  const [x, y] = toSky(e.offsetX, e.offsetY);
  where(x, y);
  const before = pointers.get(e.pointerId);
  if (!before) return;
  pointers.set(e.pointerId, [e.offsetX, e.offsetY]);
  if (pointers.size === 2) {
    const [a, b] = [...pointers.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (apart) zoomAt((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, now / apart);
    apart = now; moved = 9;
    return;
  }
  const dx = e.offsetX - before[0], dy = e.offsetY - before[1];
  moved += Math.abs(dx) + Math.abs(dy);
  view.x -= dx / view.zoom; view.y -= dy / view.zoom; redraw();
};
function where(x, y) {
  const sky = radec(x, y), row = frame.upright ? frame.height - y : y;
  const text = `x ${(x - 0.5).toFixed(1)}  y ${(row - 0.5).toFixed(1)}` + (sky ? `   ${sky[0].toFixed(6)} ${sky[1].toFixed(6)}` : "");
  $("place").textContent = text;
  if (!D.serve) return;
  clearTimeout(asking); // the server knows the pixels' fluxes
  asking = setTimeout(async () => {
    const t = frame.tiles.find(one => x >= one.x && y >= one.y && x < one.x + D.images[one.image].width && y < one.y + D.images[one.image].height);
    if (!t) return;
    const at = inImage(t, x, y), response = await fetch(`pixel?${new URLSearchParams(at)}`);
    if (response.ok && $("place").textContent === text) $("place").textContent = text + "   " + Object.entries(await response.json()).map(([b, v]) => `${b} ${v}`).join("  ");
  }, 120);
}
canvas.onpointerup = canvas.onpointercancel = e => {
  pointers.delete(e.pointerId);
  if (moved > 4 || e.type !== "pointerup") return;
  const [x, y] = toSky(e.offsetX, e.offsetY);
  if (splitting) return splitAt(x, y);
  const one = labelAt(x, y);
  pins = [];
  if (e.shiftKey && one && chosen) {
    const k = also.findIndex(other => same(other, one));
    k >= 0 ? also.splice(k, 1) : also.push(one); redraw();
  } else choose(one);
};
canvas.addEventListener("wheel", e => { e.preventDefault(); zoomAt(e.offsetX, e.offsetY, Math.exp(-e.deltaY / 400)); }, {passive: false});
addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey || (e.target.tagName === "INPUT" && ["text", "number"].includes(e.target.type)) || e.target.tagName === "SELECT") return;
  const key = e.key.toLowerCase(), step = 60 / view.zoom, w = canvas.clientWidth / 2, h = canvas.clientHeight / 2;
  const toggles = {l: "labels", p: "predictions", t: "truth", r: "residual"};
  const acts = {a: () => correct("accept"), x: () => correct("reject"), m: () => correct("merge"), c: hold, d: beginSplit, n: () => next(), b: () => next(-1),
    z: undoLast, s: () => D.serve || save(), h: home, "+": () => zoomAt(w, h, 1.3), "=": () => zoomAt(w, h, 1.3), "-": () => zoomAt(w, h, 1 / 1.3), escape: endSplit};
  const arrows = {arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1]};
  if (splitting && key === "enter") { splitAt(...toSky(w, h)); e.preventDefault(); }
  else if (toggles[key]) { $(toggles[key]).checked = !$(toggles[key]).checked; redraw(); }
  else if (acts[key]) acts[key]();
  else if (arrows[key] && e.target.type !== "range") { view.x += arrows[key][0] * step; view.y += arrows[key][1] * step; redraw(); where(...toSky(w, h)); e.preventDefault(); }
  else if (+key >= 1 && D.categories[key - 1] && chosen && isLabel(chosen)) correct("class", key - 1);
});
addEventListener("resize", redraw);
addEventListener("hashchange", goHash);
async function start() {
  $("file").textContent = D.file;
  await Promise.all(Object.entries(D.layers).map(([kind, packed]) => unpack(kind, packed)));
  panels();
  for (const id of ["labels", "predictions", "truth", "residual", "bright", "faint", "bands"]) $(id).oninput = redraw;
  for (const id of ["classes", "flags", "column"]) $(id).onchange = filter;
  $("low").oninput = $("high").oninput = filter;
  $("order").onchange = queue; $("save").onclick = save; $("undo").onclick = undoLast;
  $("frame").onchange = () => { show(+$("frame").value); choose(null); };
  $("go").onchange = () => say(goWhere($("go").value) ? "" : "No such id or position here");
  show(0); restore(); remember(); choose(null);
  goHash();
  window.review = {state: () => ({chosen: chosen && col(chosen, "id"), drawn, took, view, corrections: log.map(one => one.entry)}),
    choose: id => choose(findLabel(id)), draw: () => { draw(); return took; }, layers, size: () => [frame.width, frame.height], view: v => { Object.assign(view, v); }, home};
}
start();
