"use strict";

const EXAMPLE = `Item Name: Green Tea with Jasmine, 100 Bags
Bullet Point 1: Whole leaves, picked in spring
Bullet Point 2: Pack of 2 boxes, each of 50 bags
Value: 100
Unit: Count`;
const MAX_PHOTO_BYTES = 12e6;
const MAX_ROWS = 8;
const PARTS = {
  text: "text features", image: "photo features", fused: "the network's features",
  attributes: "sizes and counts", lightgbm: "trees on raw features",
};
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
let currency = null;
let columns = []; // table columns of the run
let newest = new AbortController(); // of the newest request: older ones are dropped
let photo = null;

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "circle", "text"].includes(name);
  const made = svg
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function money(amount) {
  const isSmall = amount > 0 && amount < 0.1; // three digits of it
  const decimals = isSmall ? 2 - Math.floor(Math.log10(amount)) : 2;
  const digits = amount >= 1000 ? 0 : Math.min(decimals, 20);
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  if (currency) Object.assign(options, { style: "currency", currency });
  return new Intl.NumberFormat(undefined, options).format(amount);
}

function percent(change) {
  const size = Math.abs(change);
  const digits = size < 10 ? 1 : 0;
  const sign = size < 0.05 ? "" : change > 0 ? "+" : "−";
  return `${sign}${size.toFixed(digits)} %`;
}

function showError(field, message) {
  $(`${field}-error`).textContent = message;
  const input = $(field);
  if (field === "form") return;
  if (message) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

function clearErrors() {
  for (const field of ["text", "photo", "form"]) showError(field, "");
}

function sentence(text) {
  const trimmed = text.trim();
  const ended = /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

function tableInput(column, place) {
  const id = `table-${place}`, hasUnit = column.units.some(Boolean);
  const plain = column.kind === "number" && !hasUnit ? "number" : "text";
  const type = column.kind === "date" ? "date" : plain;
  const input = element("input", { id, type, step: "any", autocomplete: "off" });
  const field = element("div", {}, element("label", { for: id }, column.name), input);
  if (hasUnit) input.placeholder = `3 ${column.units.find(Boolean)}`;
  if (column.kind === "category") {
    input.setAttribute("list", `${id}-known`);
    field.append(element("datalist", { id: `${id}-known` },
      ...column.categories.map((value) => element("option", { value }))));
  }
  return field;
}

function showTable(table) {
  columns = table;
  $("table-box").replaceChildren(...columns.map(tableInput));
  $("table").hidden = !columns.length;
}

function tableValues() {
  const inputs = columns.map(({ name }, place) => [name, $(`table-${place}`)]);
  const given = inputs.filter(([, input]) => input.value.trim());
  return Object.fromEntries(given.map(([name, input]) =>
    [name, input.type === "number" ? Number(input.value) : input.value]));
}

function productForm() {
  const form = new FormData(), values = tableValues();
  form.append("text", $("text").value);
  if (photo) form.append("photo", photo);
  if (Object.keys(values).length) form.append("table", JSON.stringify(values));
  return form;
}

async function ask(path, form, signal) {
  let response;
  try {
    response = await fetch(path, { method: "POST", body: form, signal, headers: keyHeader() });
  } catch {
    throw { where: "form", text: "The service does not answer. Is it still running?" };
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const error = (answer && answer.error) || {
    where: "", message: `the service answered ${response.status}`, what_to_do: "" };
  const field = { text: "text", photo: "photo" }[error.where] || "form";
  const words = [error.message, error.what_to_do].filter(Boolean).map(sentence);
  throw { where: field, text: words.join(" ") };
}

function rangeOf(answer) {
  const [narrow, wide] = answer.intervals;
  const log = (value) => Math.log1p(value);
  const low = log(wide.price_low), span = log(wide.price_high) - low || 1;
  const at = (value) => 100 * Math.min(Math.max((log(value) - low) / span, 0), 1);
  const svg = element("svg", { class: "range", "aria-hidden": "true" });
  const band = (name, from, to, y, height) => element("rect", { class: name, y, height,
    x: `${at(from)}%`, width: `${at(to) - at(from)}%`, rx: height / 2 });
  svg.append(
    band("wide", wide.price_low, wide.price_high, 9, 8),
    band("narrow", narrow.price_low, narrow.price_high, 9, 8),
    element("circle", { class: "at", cx: `${at(answer.price)}%`, cy: 13, r: 8 }),
    element("text", { x: 0, y: 44 }, money(wide.price_low)),
    element("text", { x: "100%", y: 44, "text-anchor": "end" }, money(wide.price_high)));
  return svg;
}

function showPrice(answer) {
  const [narrow, wide] = answer.intervals;
  const line = (interval) =>
    `${money(interval.price_low)} to ${money(interval.price_high)}`;
  const notes = element("ul", { class: "notes" });
  const names = { text: "text", image: "photo" };
  for (const { field, reason } of answer.placeholders) {
    const lack = field === "table" ? "Not used" : `Priced without a ${names[field]}`;
    notes.append(element("li", {}, `${lack}: ${reason}.`));
  }
  for (const flag of answer.flags) {
    notes.append(element("li", {}, `Doubtful: ${flag}.`));
  }
  $("price-box").replaceChildren(
    element("p", { class: "price" }, money(answer.price)),
    rangeOf(answer),
    element("p", {}, element("b", {}, line(narrow)),
      " contains the true price of 8 in 10 new products, ", line(wide), " of 9 in 10."),
    element("p", {}, "It is within 20 % of the true price with a probability of ",
      element("b", {}, `${Math.round(100 * answer.within_20)} %`), ", within 10 % with ",
      `${Math.round(100 * answer.within_10)} %.`));
  if (notes.childElementCount) $("price-box").append(notes);
  if (!currency) {
    $("price-box").append(element("p", { class: "hint" }, "In the catalog's currency."));
  }
}

function bars(caption, all) {
  const rows = all.filter((row) => Math.abs(row.change) >= 0.05).slice(0, MAX_ROWS);
  if (!rows.length) return [];
  const most = Math.max(...rows.map((row) => Math.abs(row.change)), 1);
  const body = element("tbody");
  for (const { name, change, shown } of rows) {
    const width = 49 * Math.abs(change) / most;
    const svg = element("svg", { "aria-hidden": "true" },
      element("rect", { class: "axis", x: "49.8%", width: "0.4%", height: 14 }),
      element("rect", { class: change > 0 ? "up" : "down", y: 2, height: 10,
        x: `${change > 0 ? 50 : 50 - width}%`, width: `${width}%` }));
    body.append(element("tr", {}, element("th", { scope: "row" }, name),
      element("td", { class: "track" }, svg),
      element("td", { class: "number" }, shown || percent(change))));
  }
  return [element("h3", {}, caption),
    element("table", { class: "bars", "aria-label": caption }, body)];
}

function showWhy(why) {
  const without = [
    ...why.words.map((word) => ({
      name: `“${word.text}”`, change: word.change_percent })),
    ...why.attributes.map((attribute) => ({
      name: `${attribute.name.replaceAll("_", " ")}: ${attribute.value}`,
      change: attribute.change_percent })),
    ...why.table.map((cell) => ({
      name: `${cell.name}: ${cell.value}`, change: cell.change_percent })),
  ];
  if (why.without_photo_percent !== null) {
    without.push({ name: "the photo", change: why.without_photo_percent });
  }
  without.sort((a, b) => Math.abs(b.change) - Math.abs(a.change));
  const box = $("why-box");
  box.replaceChildren();
  box.append(...bars("The price, if this were left out", without));
  const [network, ...added] = why.parts;
  if (added.length) {
    const parts = columns.length
      ? { ...PARTS, attributes: "sizes and table columns" } : PARTS;
    const rows = added.map(({ name, factor }) => ({
      name: parts[name] || name, change: 100 * (factor - 1),
      shown: `× ${factor.toFixed(3)}` }));
    const start = money(why.price_unit * Math.expm1(network.log_price));
    box.append(...bars(`The network predicts ${start}; from there`, rows));
  }
  $("why").hidden = !box.childElementCount;
}

function firstLine(text) {
  const name = /^\s*Item Name:\s*(.+)$/m.exec(text);
  const line = name ? name[1] : text.trim().split("\n")[0];
  return line.length > 110 ? `${line.slice(0, 109).trimEnd()}…` : line;
}

function showSimilar(products) {
  $("similar-box").replaceChildren(...products.map((product) => element("li", {},
    element("span", { class: "title" },
      firstLine(product.text) || `Product ${product.sample_id}`),
    element("span", { class: "cost" }, money(product.price)),
    element("span", { class: "hint" },
      `${Math.round(100 * product.similarity)} % alike, ${product.sample_id}`))));
  $("similar").hidden = !products.length;
}

async function explainIt(form, signal) {
  $("why-state").textContent = "Explaining the price…";
  try {
    const answer = await ask("price?explain=true", form, signal);
    if (signal.aborted) return;
    showWhy(answer.explanation);
    showSimilar(answer.explanation.similar);
    $("why-state").textContent = "";
  } catch (error) {
    if (signal.aborted) return;
    if (!error.text) throw error;
    $("why-state").textContent = `No explanation: ${error.text}`;
  }
}

function working(on) {
  $("submit").setAttribute("aria-disabled", String(on));
  $("submit").textContent = on ? "Pricing…" : "Price it";
  $("price-box").classList.toggle("loading", on);
}

async function priceIt(event) {
  event.preventDefault();
  clearErrors();
  if (!$("text").value.trim() && !photo) {
    showError("text", "Write a text, or choose a photo.");
    $("text").focus();
    return;
  }
  const wrong = columns.findIndex((_, place) => $(`table-${place}`).validity.badInput);
  if (wrong >= 0) {
    showError("form", `${columns[wrong].name} must be a ${columns[wrong].kind}.`);
    $(`table-${wrong}`).focus();
    return;
  }
  newest.abort();
  newest = new AbortController();
  const { signal } = newest;
  const form = productForm(); // once: the user may edit it before the explanation
  for (const id of ["why", "similar"]) $(id).hidden = true;
  $("why-state").textContent = "";
  working(true);
  try {
    const answer = await ask("price", form, signal);
    if (signal.aborted) return;
    showPrice(answer);
    $("result").scrollIntoView({ block: "nearest" });
    $("result").focus({ preventScroll: true });
    explainIt(form, signal);
  } catch (error) {
    if (signal.aborted) return;
    $("price-box").replaceChildren(element("p", { class: "empty" }, "No price yet."));
    if (!error.text) throw error;
    showError(error.where, error.text);
    if (error.where !== "form") $(error.where).focus();
  } finally {
    if (!signal.aborted) working(false);
  }
}

function setPhoto(file) {
  showError("photo", "");
  if (file && file.size > MAX_PHOTO_BYTES) {
    showError("photo", `The photo has ${(file.size / 1e6).toFixed(1)} MB, at most `
      + "12 MB are read. Choose a smaller one.");
    file = null;
  }
  photo = file || null;
  const preview = $("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  if (photo) preview.src = URL.createObjectURL(photo);
  preview.alt = photo ? `Photo: ${photo.name}` : "";
  preview.hidden = $("remove").hidden = !photo;
  $("photo-hint").hidden = Boolean(photo);
  $("photo-name").textContent = photo ? photo.name : "";
}

function listenToDrops(drop) {
  const stop = (event) => event.preventDefault();
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, stop);
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) setPhoto(event.dataTransfer.files[0]);
  });
}

function keyHeader() {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function watchHealth() {
  try {
    const response = await fetch("health", { headers: keyHeader() });
    $("key-form").hidden = response.status !== 401;
    if (response.status === 401) {
      $("state").textContent = "This service needs a key.";
      return;
    }
    const health = await response.json();
    currency = health.currency;
    const loading = health.status !== "ready";
    if (!loading) showTable(health.table);
    $("state").textContent = loading
      ? "The run is still being loaded; this line disappears when it is ready." : "";
    if (loading) setTimeout(watchHealth, 1000);
  } catch {
    $("state").textContent = "The service does not answer.";
    setTimeout(watchHealth, 3000);
  }
}

$("form").addEventListener("submit", priceIt);
$("key-form").addEventListener("submit", (event) => event.preventDefault());
$("key").addEventListener("change", () => {
  sessionStorage.setItem("key", $("key").value.trim());
  watchHealth();
});
$("text").addEventListener("input", () => showError("text", ""));
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    $("form").requestSubmit();
  }
});
$("example").addEventListener("click", () => {
  $("text").value = EXAMPLE;
  showError("text", "");
  $("text").focus();
});
$("photo").addEventListener("change", () => setPhoto($("photo").files[0]));
$("preview").addEventListener("error", () => { $("preview").hidden = true; });
$("remove").addEventListener("click", () => {
  $("photo").value = "";
  setPhoto(null);
  $("photo").focus();
});
listenToDrops($("drop"));
watchHealth();
