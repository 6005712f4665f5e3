// The picture and the outlines. Outlines run along the edges of pixels, so they are drawn straight
// into the pixels of a layer: 100,000 take less time than a path of a thousand.
const canvas = $("sky"), pen = canvas.getContext("2d");
const layerCanvas = document.createElement("canvas"), ink = layerCanvas.getContext("2d");
const classIndex = Object.fromEntries(D.categories.map((c, k) => [c.name, k]));
let frame = D.frames[0], frameIndex = 0, view = {x: 0, y: 0, zoom: 1}, drawn = 0, took = 0;
let chosen = null, also = [];
const colour32 = hex => { const v = parseInt(hex.slice(1), 16); return (0xff000000 | (v & 255) << 16 | (v & 0xff00) | v >> 16) >>> 0; };
const TINTS = D.categories.map(c => colour32(c.tint)), GREY = colour32("#c8c8c8");
const OTHER_TINT = {predictions: colour32("#ff7ae5"), truth: colour32("#8ce99a")};
let raster = null, buffer = null;

function draw() {
  const start = performance.now(), ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height || !raster) {
    canvas.width = layerCanvas.width = width; canvas.height = layerCanvas.height = height;
    raster = ink.createImageData(width, height); buffer = new Uint32Array(raster.data.buffer);
  }
  const scale = view.zoom * ratio;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = "#000"; pen.fillRect(0, 0, width, height);
  pen.setTransform(scale, 0, 0, scale, -view.x * scale, -view.y * scale);
  pen.imageSmoothingEnabled = scale < 2;
  pictures(scale, width / scale, height / scale);
  outlines(scale, ratio, width, height);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.drawImage(layerCanvas, 0, 0);
  pen.setTransform(scale, 0, 0, scale, -view.x * scale, -view.y * scale);
  pen.strokeStyle = "#fff"; pen.lineWidth = 2.4 / view.zoom;
  for (const one of [chosen, ...also]) if (one && !one.L.gone[one.i] && col(one, "frame") === frameIndex) {
    const [x0, y0] = boxOf(one);
    pen.beginPath();
    ringsOf(one, (p, first, last) => {
      for (let k = first; k < last; k++) pen.lineTo(x0 + p[2 * k], y0 + p[2 * k + 1]);
      pen.closePath(); pen.moveTo(x0, y0);
    });
    pen.stroke();
  }
  if (pins.length) {
    pen.strokeStyle = "#ffe066"; pen.lineWidth = 1.6 / view.zoom;
    const arm = 7 / view.zoom;
    pen.beginPath();
    for (const [x, y] of pins) { pen.moveTo(x - arm, y); pen.lineTo(x + arm, y); pen.moveTo(x, y - arm); pen.lineTo(x, y + arm); }
    pen.stroke();
  }
  took = performance.now() - start;
}
let pins = [];
function pictures(scale, width, height) {
  const what = $("residual").checked && frame.tiles.some(t => t.residual) ? "residual" : "picture";
  const over = frame.overview && what === "picture" ? load(frame, "overview") : null;
  if (over && over.complete && over.naturalWidth) {
    pen.drawImage(stretched(frame, "overview"), 0, 0, frame.width, frame.height);
    if (scale * frame.width <= 1.25 * over.naturalWidth) return;
  }
  for (const t of frame.tiles) {
    const {width: w, height: h} = D.images[t.image];
    if (t.x > view.x + width || t.y > view.y + height || t.x + w < view.x || t.y + h < view.y) continue;
    const key = t[what] ? what : "picture", image = load(t, key);
    if (image.complete && image.naturalWidth) pen.drawImage(key === "picture" ? stretched(t, key) : image, t.x, t.y, w, h);
  }
}
const coming = {};
function arrived(name, uri) { coming[name].src = uri; delete coming[name]; } // what a picture's file calls
function load(of, key) { // a picture is decoded when it is first seen
  if (!of[key + "Image"]) {
    const image = of[key + "Image"] = new Image();
    image.onload = redraw;
    if (of[key].startsWith("data:")) image.src = of[key];
    else {
      const script = document.createElement("script");
      script.src = of[key]; coming[of[key]] = image; document.head.append(script);
    }
  }
  return of[key + "Image"];
}
function stretched(of, key) { // the picture under the sliders, kept until they move
  const image = of[key + "Image"], gain = +$("bright").value, faint = +$("faint").value, band = $("bands").value;
  if (gain === 1 && faint === 1 && band === "colour") return image;
  const asked = `${gain} ${faint} ${band}`, kept = of[key + "Stretched"];
  if (kept && kept.asked === asked) return kept;
  const out = document.createElement("canvas");
  out.width = image.naturalWidth; out.height = image.naturalHeight; out.asked = asked;
  const made = out.getContext("2d", {willReadFrequently: true});
  made.drawImage(image, 0, 0);
  const all = made.getImageData(0, 0, out.width, out.height), p = all.data;
  const table = Uint8ClampedArray.from({length: 256}, (_, v) => 255 * gain * Math.pow(v / 255, 1 / faint));
  const channel = {blue: 2, green: 1, red: 0}[band];
  for (let k = 0; k < p.length; k += 4) {
    if (channel === undefined) { p[k] = table[p[k]]; p[k + 1] = table[p[k + 1]]; p[k + 2] = table[p[k + 2]]; }
    else p[k] = p[k + 1] = p[k + 2] = table[p[k + channel]];
  }
  made.putImageData(all, 0, 0);
  of[key + "Stretched"] = out;
  return out;
}
function outlines(scale, ratio, width, height) {
  buffer.fill(0);
  drawn = 0;
  const thick = Math.max(1, Math.round((scale > 3 ? 1.6 : 1.2) * ratio));
  for (const kind of ["labels", "made", ...OTHERS]) {
    const L = layers[kind];
    if (!L || !$(kind === "made" ? "labels" : kind).checked) continue;
    const visible = inView(L, width / scale, height / scale);
    if (kind === "labels" || kind === "made") drawn += visible.length;
    // Outlines of a few pixels of the screen are boxes: they look nearly the same, and cost less.
    const least = (visible.length > 20000 ? 8 : 3) * ratio;
    for (const i of visible) {
      const tint = OTHER_TINT[kind] ?? (L.cols.ignore[i] || L.cols.cat[i] < 0 ? GREY : TINTS[L.cols.cat[i]]);
      outline(L, i, scale, width, height, tint, OTHER_TINT[kind] ? 1 : L.cols.ignore[i] ? 2 : 0, least, thick);
    }
  }
  ink.putImageData(raster, 0, 0);
}
function inView(L, width, height) {
  const {box, frame: frames} = L.cols, found = [], x1 = view.x + width, y1 = view.y + height;
  for (let i = 0, k = 0; i < L.n; i++, k += 4) {
    if (frames[i] === frameIndex && L.shown[i] && box[k + 2] >= view.x && box[k] <= x1 && box[k + 3] >= view.y && box[k + 1] <= y1) found.push(i);
  }
  return found;
}
function outline(L, i, scale, width, height, tint, dash, least, thick) {
  const b = L.cols.box, x0 = b[4 * i], y0 = b[4 * i + 1], x1 = b[4 * i + 2], y1 = b[4 * i + 3];
  const left = (x0 - view.x) * scale, top = (y0 - view.y) * scale;
  if ((x1 - x0) * scale < least && (y1 - y0) * scale < least) {
    const right = (x1 - view.x) * scale, bottom = (y1 - view.y) * scale;
    across(left, right, top, width, height, tint, dash, thick); across(left, right, bottom, width, height, tint, dash, thick);
    down(top, bottom, left, width, height, tint, dash, thick); down(top, bottom, right, width, height, tint, dash, thick);
    return;
  }
  ringsOf({L, i}, (p, first, last) => {
    for (let k = first, j = last - 1; k < last; j = k++) {
      const ax = left + p[2 * j] * scale, ay = top + p[2 * j + 1] * scale;
      const bx = left + p[2 * k] * scale, by = top + p[2 * k + 1] * scale;
      if (p[2 * j + 1] === p[2 * k + 1]) across(Math.min(ax, bx), Math.max(ax, bx), ay, width, height, tint, dash, thick);
      else down(Math.min(ay, by), Math.max(ay, by), ax, width, height, tint, dash, thick);
    }
  });
}
const GAP = [8, 5, 2]; // pixels of eight that are drawn: whole lines, dashes, dots
function across(x0, x1, y, width, height, tint, dash, thick) {
  const first = Math.max(Math.floor(x0), 0), last = Math.min(Math.floor(x1) + thick, width), row = Math.floor(y), on = GAP[dash];
  for (let t = Math.max(row, 0); t < Math.min(row + thick, height); t++)
    for (let x = first; x < last; x++) if ((x + row & 7) < on) buffer[t * width + x] = tint;
}
function down(y0, y1, x, width, height, tint, dash, thick) {
  const first = Math.max(Math.floor(y0), 0), last = Math.min(Math.floor(y1) + thick, height), column = Math.floor(x), on = GAP[dash];
  for (let y = first; y < last; y++) if ((y + column & 7) < on)
    for (let t = Math.max(column, 0); t < Math.min(column + thick, width); t++) buffer[y * width + t] = tint;
}
let waiting = false;
function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } }
function home() {
  const z = Math.min(canvas.clientWidth / frame.width, canvas.clientHeight / frame.height);
  view = {zoom: z, x: (frame.width - canvas.clientWidth / z) / 2, y: (frame.height - canvas.clientHeight / z) / 2};
  redraw();
}
function zoomAt(px, py, factor) {
  const z = Math.min(Math.max(view.zoom * factor, 0.02), 60);
  view.x += px / view.zoom - px / z; view.y += py / view.zoom - py / z; view.zoom = z; redraw();
}
function lookAt(x, y, size) {
  view.zoom = Math.min(canvas.clientWidth, canvas.clientHeight) / size;
  view.x = x - canvas.clientWidth / view.zoom / 2; view.y = y - canvas.clientHeight / view.zoom / 2;
  redraw();
}
function goTo(one) {
  if (col(one, "frame") !== frameIndex) show(col(one, "frame"));
  const b = boxOf(one);
  lookAt((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, Math.max(b[2] - b[0], b[3] - b[1], 24) * 5);
}
const toSky = (px, py) => [view.x + px / view.zoom, view.y + py / view.zoom];
function radec(x, y, f = frame) { // pixel centres of the FITS image at whole numbers from 0
  const w = f.wcs;
  if (!w) return null;
  const u = x - 0.5 - w.pixel[0], v = f.height - y - 0.5 - w.pixel[1], r = Math.PI / 180;
  const xi = (w.matrix[0][0] * u + w.matrix[0][1] * v) * r, eta = (w.matrix[1][0] * u + w.matrix[1][1] * v) * r;
  const d0 = w.sky[1] * r, under = Math.cos(d0) - eta * Math.sin(d0);
  const ra = w.sky[0] + Math.atan2(xi, under) / r;
  const dec = Math.atan2((Math.sin(d0) + eta * Math.cos(d0)), Math.hypot(xi, under)) / r;
  return [(ra + 360) % 360, dec];
}
function fromRadec(ra, dec, f) { // the place on a coadd as shown; null beyond its half of the sky
  const w = f.wcs;
  if (!w) return null;
  const r = Math.PI / 180, a = (ra - w.sky[0]) * r, d = dec * r, d0 = w.sky[1] * r;
  const cos = Math.sin(d0) * Math.sin(d) + Math.cos(d0) * Math.cos(d) * Math.cos(a);
  if (cos <= 0) return null;
  const xi = Math.cos(d) * Math.sin(a) / cos / r, eta = (Math.cos(d0) * Math.sin(d) - Math.sin(d0) * Math.cos(d) * Math.cos(a)) / cos / r;
  const [[p, q], [s, t]] = w.matrix, det = p * t - q * s;
  return [(t * xi - q * eta) / det + w.pixel[0] + 0.5, f.height - ((p * eta - s * xi) / det + w.pixel[1] + 0.5)];
}
