// The chosen label by itself: its image and residual from the page's own pictures; with a server
// also its model, as the deblender fits it, and the image without the other sources.
let fitting = 0;
const FITTED = ["model", "half_light_radius_arcsec", "half_light_radius_px", "axis_ratio", "sersic_index", "chi2", "snr"];
function stamps(one) {
  const place = $("stamps"), note = $("fit");
  clearTimeout(fitting); place.replaceChildren(); note.textContent = "";
  if (!one) return;
  const b = boxOf(one), border = Math.max(0.4 * Math.max(b[2] - b[0], b[3] - b[1]), 6);
  const t = tileAt(one, (b[0] + b[2]) / 2, (b[1] + b[3]) / 2), {width, height} = D.images[t.image];
  const x0 = Math.max(b[0] - border - t.x, 0), y0 = Math.max(b[1] - border - t.y, 0);
  const x1 = Math.min(b[2] + border - t.x, width), y1 = Math.min(b[3] + border - t.y, height);
  for (const [key, name] of [["picture", "image"], ["residual", "residual"]])
    if (t[key]) place.append(figure(cut(t, key, x0, y0, x1 - x0, y1 - y0), name));
  if (!isLabel(one)) return;
  if (D.serve) fitting = setTimeout(() => fitted(one), 200);
  else note.textContent = (t.residual ? "" : "No residual was written with these labels. ") + "Its model is fitted with astrolabel review FILE --serve.";
}
function figure(drawn, name) {
  const made = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.textContent = name; drawn.setAttribute("role", "img"); drawn.setAttribute("aria-label", name);
  made.append(drawn, caption);
  return made;
}
function cut(t, key, x, y, width, height) {
  const made = document.createElement("canvas"), image = load(t, key);
  made.width = Math.max(Math.round(width), 1); made.height = Math.max(Math.round(height), 1);
  const paint = () => made.getContext("2d").drawImage(image, x, y, width, height, 0, 0, made.width, made.height);
  if (image.complete && image.naturalWidth) paint(); else image.addEventListener("load", paint);
  return made;
}
async function fitted(one) {
  const response = await fetch(`source?id=${col(one, "id")}`), answer = await response.json();
  if (!same(one, chosen)) return;
  if (!response.ok) { $("fit").textContent = `No model: ${answer.error}`; return; }
  $("stamps").replaceChildren(...Object.entries(answer.pictures).map(([name, uri]) => {
    const image = new Image();
    image.src = uri;
    return figure(image, name);
  }));
  const known = FITTED.filter(name => typeof answer.attributes[name] === "number" || answer.attributes[name]);
  const words = known.map(name => `${name.replaceAll("_", " ")} ${answer.attributes[name]}`).join(", ");
  $("fit").textContent = `Fit: ${words || answer.state.replace(":", ", ")}`;
}
