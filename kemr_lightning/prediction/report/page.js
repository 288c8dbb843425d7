"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const LAYERS = [["initial", "initial"], ["refined", "refined"], ["truth", "ground truth"]];
const present = LAYERS.filter(([name]) => data.images.some((image) => image.outlines[name]));
// Where there is no refined layer the initial one is all there is.
const hidden = new Set(present.some(([name]) => name === "refined") ? ["initial"] : []);
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---- one image -----------------------------------------------------------------------------------------------------

function describe(image, index) {
  const one = image.instances[index];
  const lines = [`score ${one.score.toFixed(2)}` + (data.labels.length > 1 ? `   ${data.labels[one.label - 1]}` : "")];
  lines.push(`${one.area} px` + (one.length ? `,   ${one.length.toFixed(0)} px long, ${one.width.toFixed(1)} px wide` : ""));
  lines.push(`box ${one.box[2].toFixed(0)} x ${one.box[3].toFixed(0)} px`);
  if (one.iou !== null) {
    const from = one.before !== null && one.before !== one.iou ? `${one.before.toFixed(2)} \u2192 ` : "";
    lines.push(`IoU with its annotation ${from}${one.iou.toFixed(2)}`);
  } else if (one.kind) {
    lines.push({ false: "no annotation here", merging: "over several annotations", splitting: "a part of an annotation",
      duplicate: "its annotation is taken", mislabelled: "annotated under another label" }[one.kind] || one.kind);
  }
  if (one.marks.length) lines.push(one.marks.join(", "));
  return lines.join("\n");
}

function counted(image) {
  return image.count === 1 ? "1 chromosome" : `${image.count} chromosomes`;
}

function pictureOf(image) {
  return "data:image/jpeg;base64," + byId(`picture-${image.id}`).textContent;
}

function overlay(image) {
  const svg = element("svg:svg", { viewBox: `0 0 ${image.width} ${image.height}`, "data-image": image.id });
  for (const name of hidden) svg.classList.add(`hide-${name}`);
  svg.append(element("svg:image", { href: pictureOf(image), width: image.width, height: image.height,
    preserveAspectRatio: "none" }));
  const tenths = element("svg:g", { transform: "scale(0.1)" });
  for (const name of ["truth", "initial", "refined"]) {
    const paths = image.outlines[name];
    if (!paths) continue;
    const group = element("svg:g", { class: `layer ${name}` });
    paths.forEach((path, index) => {
      const kind = name === "truth" ? image.truth.kinds[index] : image.instances[index].kind;
      group.append(element("svg:path", { d: path, ...(kind ? { class: kind } : {}) }));
    });
    tenths.append(group);
  }
  // Filled but invisible, the smallest on top, so that each can be pointed at.
  const areas = element("svg:g", { class: "areas" });
  const finals = image.outlines.refined || image.outlines.initial;
  const order = image.instances.map((_, index) => index).sort((a, b) => image.instances[b].area - image.instances[a].area);
  for (const index of order) {
    const area = element("svg:path", { d: finals[index], "data-instance": index });
    area.addEventListener("pointerenter", () => { area.classList.add("hot"); tell(describe(image, index)); });
    area.addEventListener("pointerleave", () => { area.classList.remove("hot"); tell(null); });
    areas.append(area);
  }
  tenths.append(areas);
  svg.append(tenths);
  return svg;
}

function tell(text) {
  const tip = byId("tip");
  tip.hidden = text === null;
  tip.textContent = text || "";
}

document.addEventListener("pointermove", (event) => {
  const tip = byId("tip");
  if (tip.hidden) return;
  // A dialog lies above everything else; the tip goes along with it.
  const home = byId("viewer").open ? byId("viewer") : document.body;
  if (tip.parentNode !== home) home.append(tip);
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
});

// ---- layers --------------------------------------------------------------------------------------------------------

function toggle(name) {
  if (hidden.has(name)) hidden.delete(name); else hidden.add(name);
  for (const svg of document.querySelectorAll("svg[data-image]")) svg.classList.toggle(`hide-${name}`, hidden.has(name));
  for (const box of document.querySelectorAll(`[data-layer=${name}]`)) box.checked = !hidden.has(name);
}

for (const place of document.querySelectorAll(".layers")) {
  for (const [name, label] of present) {
    const box = element("input", { type: "checkbox", "data-layer": name });
    box.checked = !hidden.has(name);
    box.addEventListener("change", () => toggle(name));
    place.append(element("label", { style: `--colour: var(--${name})` }, box, ` ${label}`));
  }
}

// ---- gallery -------------------------------------------------------------------------------------------------------

const compare = {
  review: (a, b) => b.review - a.review || a.id - b.id,
  name: (a, b) => (a.name < b.name ? -1 : 1),
  count: (a, b) => a.count - b.count || a.id - b.id,
};
let order = [];

// Pictures are decoded and outlines drawn only near the part of the page that is seen.
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const image = data.images.find((one) => one.id === Number(entry.target.dataset.image));
    if (!entry.isIntersecting) entry.target.replaceChildren(blank(image));
    else if (!entry.target.querySelector("svg[data-image]")) entry.target.replaceChildren(overlay(image));
  }
}, { rootMargin: "600px" });

function blank(image) {
  return element("svg:svg", { viewBox: `0 0 ${image.width} ${image.height}` });
}

function card(image) {
  const picture = element("button", { class: "picture", type: "button", "data-image": image.id,
    "aria-label": `enlarge ${image.name}` }, blank(image));
  picture.addEventListener("click", () => view(image));
  const badge = element("span", { class: "badge", title: "review score", style: `--score: ${image.review}` },
    image.review.toFixed(0));
  const counts = [counted(image)];
  if (image.truth) counts.push(`${image.truth.count} annotated`);
  if (image.shared) counts.push(`${image.shared} px shared`);
  const text = element("div", { class: "text" }, badge, element("div", { class: "name" }, image.name),
    element("div", {}, counts.join(", ")));
  const reasons = [...image.reasons, ...errors(image)];
  if (reasons.length) text.append(element("ul", {}, ...reasons.map((reason) => element("li", {}, reason))));
  near.observe(picture);
  return element("article", { class: "card" }, picture, text);
}

function errors(image) {
  if (!image.truth || !image.truth.kinds.length) return [];
  const number = (list, kind) => list.filter((one) => one === kind).length;
  const kinds = image.instances.map((one) => one.kind);
  const found = [["missed", number(image.truth.kinds, "missed")], ["merged", number(image.truth.kinds, "merged")],
    ["split", number(image.truth.kinds, "split")], ["false", number(kinds, "false")]];
  const some = found.filter(([, count]) => count).map(([name, count]) => `${count} ${name}`);
  return some.length ? [`against the annotations: ${some.join(", ")}`] : [];
}

function arrange() {
  near.disconnect();
  const wanted = byId("find").value.trim().toLowerCase();
  order = data.images
    .filter((image) => !byId("flagged").checked || image.reasons.length)
    .filter((image) => !wanted || [image.name, ...image.reasons].some((text) => text.toLowerCase().includes(wanted)))
    .sort(compare[byId("sort").value]);
  byId("gallery").replaceChildren(...order.map(card));
  byId("shown").textContent = `${order.length} of ${data.images.length} images`;
}

for (const id of ["sort", "flagged"]) byId(id).addEventListener("change", arrange);
byId("find").addEventListener("input", arrange);

// ---- one image, large ----------------------------------------------------------------------------------------------

let viewed = null;

function view(image) {
  viewed = image;
  tell(null);
  byId("name").textContent = image.name;
  byId("about").textContent = [counted(image), ...image.reasons].join(", ");
  const svg = overlay(image);
  movable(svg, image);
  byId("stage").replaceChildren(svg);
  if (!byId("viewer").open) byId("viewer").showModal();
}

function step(by) {
  const at = order.indexOf(viewed) + by;
  if (viewed && order[at]) view(order[at]);
}

function movable(svg, image) {
  const box = { x: 0, y: 0, width: image.width, height: image.height };
  const show = () => svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
  const scale = () => Math.max(box.width / svg.clientWidth, box.height / svg.clientHeight);
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const factor = Math.min(Math.max(Math.exp(event.deltaY * 0.0015), 0.5), 2);
    if (box.width * factor < 20 || box.width * factor > 4 * image.width) return;
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    box.x = place.x + (box.x - place.x) * factor;
    box.y = place.y + (box.y - place.y) * factor;
    box.width *= factor;
    box.height *= factor;
    show();
  }, { passive: false });
  let last = null;
  svg.addEventListener("pointerdown", (event) => { last = event; svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointerup", () => { last = null; });
  svg.addEventListener("pointermove", (event) => {
    if (!last) return;
    box.x -= (event.clientX - last.clientX) * scale();
    box.y -= (event.clientY - last.clientY) * scale();
    last = event;
    show();
  });
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("close", () => { tell(null); byId("stage").replaceChildren(); });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=search], select")) return;
  if (byId("viewer").open && event.key === "ArrowLeft") step(-1);
  if (byId("viewer").open && event.key === "ArrowRight") step(1);
  const layer = present[Number(event.key) - 1];
  if (layer) toggle(layer[0]);
});

// ---- figures and charts --------------------------------------------------------------------------------------------

function bars(series, labels, width, height, every, marked) {
  const [left, right, top, bottom] = [34, 12, 10, 24];
  const most = Math.max(1, ...series.flatMap((one) => one.values));
  const slot = (width - left - right) / labels.length;
  const thick = (slot * 0.86) / series.length;
  const up = (value) => top + (height - top - bottom) * (1 - value / most);
  const svg = element("svg:svg", { width, height, role: "img" });
  for (const value of new Set([0, Math.round(most / 2), most])) {
    svg.append(element("svg:line", { x1: left, x2: width, y1: up(value), y2: up(value), stroke: "#e4e4e0" }));
    svg.append(element("svg:text", { x: left - 5, y: up(value) + 4, "text-anchor": "end" }, String(value)));
  }
  labels.forEach((label, index) => {
    series.forEach((one, number) => {
      if (!one.values[index]) return;
      const bar = element("svg:rect", { x: left + index * slot + slot * 0.07 + number * thick, y: up(one.values[index]),
        width: Math.max(thick, 1), height: up(0) - up(one.values[index]), fill: one.colour });
      bar.append(element("svg:title", {}, `${label}: ${one.values[index]}`));
      svg.append(bar);
    });
    if (index % every === 0) {
      svg.append(element("svg:text", { x: left + (index + 0.5) * slot, y: height - 8, "text-anchor": "middle" }, label));
    }
  });
  if (marked !== undefined) {
    const x = left + (marked + 0.5) * slot;
    svg.append(element("svg:line", { x1: x, x2: x, y1: 2, y2: up(0), stroke: "#222", "stroke-dasharray": "3 3" }));
  }
  return svg;
}

function panel(place, title, ...content) {
  const node = element("div", { class: "panel" }, element("h2", {}, title), ...content);
  place.append(node);
  return node;
}

function countChart() {
  const counts = data.images.map((image) => image.count);
  const ends = data.expected === null ? counts : [...counts, data.expected];
  const low = Math.max(0, Math.min(...ends) - 1);
  const wide = Math.max(1, Math.ceil((Math.max(...ends) + 2 - low) / 40));
  const number = Math.ceil((Math.max(...ends) + 2 - low) / wide);
  const values = Array(number).fill(0);
  for (const count of counts) values[Math.floor((count - low) / wide)] += 1;
  const labels = values.map((_, index) => String(low + index * wide));
  const marked = data.expected === null ? undefined : Math.floor((data.expected - low) / wide);
  const title = "Chromosomes in an image" + (data.expected === null ? "" : ` (usual: ${data.expected})`);
  panel(byId("stack"), title, bars([{ values, colour: "#5b7fa6" }], labels, 390, 170, Math.ceil(number / 10), marked)).id = "counts";
}

function evaluationPanels() {
  const { layers, images } = data.evaluation;
  const names = Object.keys(layers);
  const heads = names.length > 1 ? { initial: "initial", final: "refined" } : { final: "predicted" };
  const percent = (value) => (value === null ? "\u2013" : `${value.toFixed(1)} %`);
  const rows = [["annotations", (l) => Object.values(l.annotations).reduce((a, b) => a + b, 0)]];
  for (const kind of ["matched", "missed", "merged", "split", "mislabelled"]) {
    rows.push([kind === "matched" ? "found" : kind, (l) => l.annotations[kind] || 0]);
  }
  rows.push(["false predictions", (l) => l.predictions.false || 0]);
  rows.push(["pieces of chromosomes", (l) => l.predictions.splitting || 0]);
  rows.push(["duplicates", (l) => l.predictions.duplicate || 0]);
  rows.push(["found of isolated", (l) => `${percent(l.isolated.found)} of ${l.isolated.annotations}`]);
  rows.push(["found of overlapped", (l) => `${percent(l.overlapped.found)} of ${l.overlapped.annotations}`]);
  rows.push(["mean IoU, all found", (l) => percent(l.mean_iou)]);
  rows.push(["mean IoU, isolated", (l) => percent(l.isolated.mean_iou)]);
  rows.push(["mean IoU, overlapped", (l) => percent(l.overlapped.mean_iou)]);
  const body = rows.map(([label, value]) => element("tr", {}, element("td", {}, label),
    ...names.map((name) => element("td", {}, String(value(layers[name]))))));
  const head = element("tr", {}, element("th", {}, ""), ...names.map((name) => element("th", {}, heads[name])));
  panel(byId("charts"), `Against the annotations of ${images} image${images === 1 ? "" : "s"}`,
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...body))).id = "evaluation";
  const colours = { initial: "var(--initial)", final: names.length > 1 ? "var(--refined)" : "var(--initial)" };
  const series = names.map((name) => ({ values: layers[name].histogram, colour: colours[name] }));
  const labels = series[0].values.map((_, index) => (0.5 + index / 40).toFixed(3).replace(/0$/, ""));
  const keys = names.flatMap((name) => [element("span", { class: "key", style: `background: ${colours[name]}` }), heads[name]]);
  panel(byId("stack"), "IoU of found chromosomes", bars(series, labels, 390, 190, 4), element("div", {}, ...keys)).id = "ious";
}

function figure(label, value) {
  byId("figures").append(element("div", {}, element("dt", {}, label), element("dd", {}, String(value))));
}

byId("title").textContent = data.title;
figure("images", data.images.length);
figure("chromosomes", data.images.reduce((sum, image) => sum + image.count, 0));
figure("images with reasons to look", data.images.filter((image) => image.reasons.length).length);
if (data.failures.length) {
  figure("could not be done", data.failures.length);
  byId("failures").hidden = false;
  byId("failures").querySelector("ul").append(
    ...data.failures.map((one) => element("li", {}, `${one.name}: ${one.reason}`)));
}
if (data.images.length) countChart();
if (data.evaluation) evaluationPanels();
arrange();
