// Filters, the queue, and what is known of the chosen label.
let flagsOn = [], classesOn = new Set(), low = -Infinity, high = Infinity, line = [];
const COLUMN_NAMES = {area: "area (px)", chi2: "χ² per pixel", iou_predictions: "IoU with prediction", iou_truth: "IoU with truth", disagreement: "disagreement", doubt: "doubt"};

function readFilters() {
  flagsOn = [...document.querySelectorAll("#flags input:checked")].map(i => i.value);
  classesOn = new Set([...document.querySelectorAll("#classes input:checked")].map(i => i.value));
  const bound = (id, none) => $(id).value === "" ? none : +$(id).value;
  low = bound("low", -Infinity); high = bound("high", Infinity);
}
const group = one => col(one, "ignore") ? "ignored" : String(col(one, "cat"));
function passes(one) {
  if (one.L.gone[one.i] || !classesOn.has(group(one))) return false;
  if (low > -Infinity || high < Infinity) {
    const value = number(one, $("column").value);
    if (!(value >= low && value <= high)) return false;
  }
  if (!flagsOn.length) return true;
  const has = flagsOf(one);
  return flagsOn.every(f => has.includes(f));
}
function filter() { // what is shown; then the queue and the picture follow
  readFilters();
  for (const kind of ["labels", "made"]) {
    const L = layers[kind];
    for (let i = 0; i < L.n; i++) L.shown[i] = passes({L, i}) ? 1 : 0;
  }
  for (const kind of OTHERS) if (layers[kind]) layers[kind].gone.forEach((gone, i) => { layers[kind].shown[i] = gone ? 0 : 1; });
  queue(); redraw();
}
function keyOf(one, order) { // the smallest comes first; NaN is left out
  if (!isLabel(one)) return ["doubt", "disagreement"].includes(order) && col(one, order) > 0 ? -col(one, order) : NaN;
  if (order === "id") return col(one, "id");
  if (order === "iou") return number(one, "iou_predictions");
  const value = number(one, order);
  // Labels without a doubt follow by their residual.
  if (order === "doubt") return -value - 1e-9 * (Math.min(number(one, "chi2"), 1e6) || 0);
  return order === "snr" ? value : -value;
}
function queue() {
  const order = $("order").value, found = [];
  let shown = 0, all = 0;
  for (const kind of ["labels", "made", ...OTHERS]) {
    const L = layers[kind];
    if (!L) continue;
    for (let i = 0; i < L.n; i++) {
      const one = {L, i};
      if (isLabel(one)) { all += !L.gone[i]; shown += L.shown[i]; }
      if (!L.shown[i] || done.has(kind + i)) continue;
      one.key = keyOf(one, order);
      if (!Number.isNaN(one.key)) found.push(one);
    }
  }
  line = found.sort((a, b) => a.key - b.key).slice(0, 200);
  $("queue").replaceChildren(...line.map(one => {
    const item = document.createElement("li"), made = document.createElement("button"), note = document.createElement("span");
    const value = order === "id" ? "" : Math.abs(one.key);
    made.textContent = isLabel(one) ? col(one, "id") : `missed: ${one.L.kind} ${col(one, "id")}`;
    note.className = "dim"; note.textContent = value === "" ? value : +value.toPrecision(3);
    if (order === "doubt" && isLabel(one)) note.textContent = doubtOf(one);
    made.dataset.id = col(one, "id"); made.dataset.kind = one.L.kind;
    made.append(note); made.onclick = () => choose(one, true); item.append(made);
    return item;
  }));
  markQueue();
  $("count").textContent = `${shown} of ${all} labels`;
}
function markQueue() {
  [...$("queue").querySelectorAll("button")].forEach((b, k) => b.setAttribute("aria-current", same(line[k], chosen)));
}
function reason(one) { // what a label is in doubt for
  const k = col(one, "doubt_for");
  return k === undefined || k < 0 ? "" : one.L.texts.doubt_for[k];
}
function doubtOf(one) {
  const doubt = number(one, "doubt"), chi2 = number(one, "chi2");
  return doubt > 0 ? `${reason(one)} ${+doubt.toPrecision(3)}` : chi2 >= 0 ? `χ² ${+chi2.toPrecision(3)}` : "";
}
let at = -1;
function next(step = 1) {
  const k = line.findIndex(one => same(one, chosen));
  at = k >= 0 ? k + step : Math.max(at, 0);
  queue();
  at = Math.max(Math.min(at, line.length - 1), 0);
  choose(line[at] || null, true);
}
function choose(one, go) {
  chosen = one || null; also = held.filter(other => !same(other, one)); endSplit();
  const isOther = one && !isLabel(one), cls = one && (D.categories[col(one, "cat")] || {name: "no class"}).name;
  $("chosen").textContent = !one ? "No label chosen" : isOther ? `${one.L.kind === "truth" ? "True source" : "Prediction"} ${col(one, "id")}: ${cls}`
    : `Label ${col(one, "id")}: ${col(one, "ignore") ? "ignore region" : cls}`;
  const table = $("attributes"); table.replaceChildren();
  for (const [key, value] of one ? values(one) : []) {
    const row = table.insertRow();
    row.insertCell().textContent = key; row.insertCell().textContent = value;
  }
  const actions = !one ? [] : isOther ? [["Add as a label", "A", () => correct("accept")]]
    : [["Accept", "A", () => correct("accept")], ["Reject", "X", () => correct("reject")], ["Merge", "M", () => correct("merge")], ["Split", "D", beginSplit]]
      .concat(D.categories.map((c, k) => [c.name, k < 9 ? k + 1 : "", () => correct("class", k)]));
  $("actions").replaceChildren(...actions.map(([text, key, act]) => button(text, key, act)));
  stamps(one);
  if (one && go) goTo(one);
  markQueue(); redraw();
}
let held = [];
function hold() { // keeps the chosen label for a merge with the next one that is chosen
  if (!chosen || !isLabel(chosen)) return;
  const k = held.findIndex(other => same(other, chosen));
  k >= 0 ? held.splice(k, 1) : held.push(chosen);
  say(held.length ? `Held for a merge: ${held.map(other => col(other, "id")).join(", ")}. Choose another label, then M` : "");
  redraw();
}
function values(one) {
  const found = reason(one) ? [["in doubt for", reason(one)]] : [];
  for (const name of one.L.kind === "made" ? Object.keys(one.L.made[one.i].attr) : one.L.fields) {
    let value = attr(one, name);
    if (value === null || value === "") continue;
    if (typeof value === "number" && !Number.isInteger(value)) value = +value.toPrecision(name === "ra" || name === "dec" ? 10 : 6);
    if (Array.isArray(value)) value = value.join(", ");
    if (typeof value === "string" && value.startsWith("[")) value = JSON.parse(value).join(", ");
    if (value !== "") found.push([name, value]);
  }
  found.push(["area", col(one, "area")]);
  for (const [name, text] of Object.entries({...COLUMN_NAMES, iou: "IoU with a label"})) {
    const known = name === "area" || (name === "chi2" && attr(one, "chi2") !== null);
    const value = known ? undefined : col(one, name);
    if (value !== undefined && !Number.isNaN(value)) found.push([text, +value.toPrecision(3)]);
  }
  for (const kind of OTHERS) {
    const k = col(one, "class_" + kind);
    if (k !== undefined && k >= 0) found.push([`class of the ${kind}`, D.categories[k].name]);
  }
  return found;
}
function button(text, key, action) {
  const made = document.createElement("button"), hint = document.createElement("kbd");
  made.textContent = text; hint.textContent = key; made.append(hint); made.onclick = action;
  return made;
}
function show(k) {
  frameIndex = k; frame = D.frames[k]; $("frame").value = k;
  $("bands").replaceChildren(new Option("colour", "colour"), ...["red", "green", "blue"].map((c, n) => new Option(frame.bands[2 - n], c)));
  home();
}
function panels() { // made once
  const L = layers.labels, numeric = L.fields.filter(name => !L.texts["attr." + name]);
  const first = ["mag_i", ...numeric.filter(n => n.startsWith("mag_")), "snr"].filter(n => numeric.includes(n));
  const known = Object.keys(COLUMN_NAMES).filter(name => L.cols[name]);
  const names = [...new Set([...first, ...known, ...numeric])];
  $("column").replaceChildren(...names.map(name => new Option(COLUMN_NAMES[name] || name, name)));
  const counts = {}, flags = {};
  for (let i = 0; i < L.n; i++) {
    const one = {L, i};
    counts[group(one)] = (counts[group(one)] || 0) + 1;
    for (const f of flagsOf(one)) flags[f] = (flags[f] || 0) + 1;
  }
  const groups = D.categories.map((c, k) => [String(k), c.name, c.tint]).concat([["ignored", "ignore regions", "#c8c8c8"]]);
  $("classes").replaceChildren(...groups.filter(([key]) => counts[key] || key !== "ignored").map(([key, name, colour]) => check(key, `${name} (${counts[key] || 0})`, true, colour)));
  $("flags").replaceChildren(...Object.entries(flags).sort((a, b) => b[1] - a[1]).map(([f, n]) => check(f, `${f} (${n})`, false)));
  for (const kind of OTHERS) $("for-" + kind).hidden = !layers[kind];
  for (const [value, there] of [["disagreement", L.cols.disagreement], ["iou", L.cols.iou_predictions]])
    if (!there) $("order").querySelector(`[value=${value}]`).remove();
  $("order").selectedIndex = 0;
  $("frame").replaceChildren(...D.frames.map((f, k) => new Option(f.name, k)));
  $("frame").hidden = D.frames.length < 2;
}
function check(key, text, on, colour) {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox"; box.value = key; box.checked = on; label.append(box, " ");
  if (colour) { const mark = document.createElement("i"); mark.className = "tint"; mark.style.borderColor = colour; label.append(mark); }
  label.append(text); return label;
}
function goWhere(text) { // an id, or RA and Dec in degrees; false where there is no such place
  const parts = text.trim().split(/[\s,]+/).map(Number);
  if (parts.length === 1 && Number.isInteger(parts[0])) {
    const one = findLabel(parts[0]);
    if (one) choose(one, true);
    return !!one;
  }
  if (parts.length !== 2 || parts.some(Number.isNaN)) return false;
  return D.frames.some((f, k) => {
    const at = fromRadec(parts[0], parts[1], f);
    if (!at || at[0] < 0 || at[1] < 0 || at[0] > f.width || at[1] > f.height) return false;
    return visit(k, at[0], at[1]);
  });
}
function visit(k, x, y) {
  if (k !== frameIndex) show(k);
  pins = [[x, y]]; choose(labelAt(x, y)); lookAt(x, y, 120);
  return true;
}
function showFlag(name) { // only the labels that have it, the first of them chosen
  const boxes = [...document.querySelectorAll("#flags input")], box = boxes.find(one => one.value === name);
  if (!box) return false;
  for (const one of boxes) one.checked = one === box;
  filter(); choose(line.find(isLabel) || null, true);
  return true;
}
function showTile(n) { // the whole of an image
  const k = D.frames.findIndex(f => f.tiles.some(t => t.image === n)), t = D.frames[k].tiles.find(one => one.image === n);
  if (k !== frameIndex) show(k);
  const {width, height} = D.images[n];
  pins = []; choose(null); lookAt(t.x + width / 2, t.y + height / 2, Math.max(width, height));
  return true;
}
function goHash() { // #id=7, #ra=150.1&dec=2.2, #image=NAME&x=10&y=20, #image=NAME, #flag=edge; #7 as in older links
  const hash = location.hash.slice(1), q = new URLSearchParams(hash);
  if (/^\d+$/.test(hash)) return goWhere(hash);
  if (q.has("id") && goWhere(q.get("id"))) return true;
  if (q.has("ra") && goWhere(`${q.get("ra")} ${q.get("dec")}`)) return true;
  const n = D.images.findIndex(i => i.file_name === q.get("image"));
  if (q.has("flag")) return showFlag(q.get("flag"));
  if (n < 0) return false;
  if (!q.has("x")) return showTile(n);
  const k = D.frames.findIndex(f => f.tiles.some(t => t.image === n)), t = D.frames[k].tiles.find(one => one.image === n);
  const y = +q.get("y") + 0.5;
  return visit(k, t.x + +q.get("x") + 0.5, t.y + (D.frames[k].upright ? D.images[n].height - y : y));
}
