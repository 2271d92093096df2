"use strict";
(() => {
  const list = document.getElementById("list");
  const cards = [...list.children];
  const field = (id) => document.getElementById(id);
  const filters = ["search", "kind", "suspicion", "marked"].map(field);
  const [search, kind, suspicion, marked] = filters;
  const store = "pricestack-review:" + document.body.dataset.key;
  const marks = new Map();
  let current = null;
  let canStore = true;

  const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));

  function read() {
    try {
      const kept = JSON.parse(localStorage.getItem(store) || "{}");
      for (const [id, mark] of Object.entries(kept))
        if (["wrong", "right", "later"].includes(mark)) marks.set(id, mark);
    } catch {
      canStore = false;
    }
  }

  function keep() {
    try {
      localStorage.setItem(store, JSON.stringify(Object.fromEntries(marks)));
    } catch {
      canStore = false;
    }
  }

  function show(card) {
    const mark = marks.get(card.dataset.id);
    if (mark) card.dataset.mark = mark;
    else delete card.dataset.mark;
    for (const button of card.querySelectorAll("[data-mark]"))
      button.setAttribute("aria-pressed", String(button.dataset.mark === mark));
  }

  function fits(card) {
    const mark = marks.get(card.dataset.id) || "none";
    return (
      (!kind.value || card.dataset.kind === kind.value) &&
      (!suspicion.value || card.dataset.suspicion === suspicion.value) &&
      (!marked.value || mark === marked.value) &&
      texts.get(card).includes(search.value.trim().toLowerCase())
    );
  }

  function tell() {
    const shown = cards.filter((card) => !card.hidden).length;
    const count = cards.filter((card) => marks.has(card.dataset.id)).length;
    field("status").textContent =
      `${shown} of ${cards.length} products shown, ${count} marked.` +
      (canStore ? "" : " This browser keeps no marks: save them before you leave.");
    field("nothing").hidden = shown > 0;
  }

  function filter() {
    for (const card of cards) card.hidden = !fits(card);
    if (current && current.hidden) select(null);
    tell();
  }

  function sort() {
    const by = field("sort").value;
    const sign = by === "rank" ? 1 : -1;
    cards.sort(
      (a, b) =>
        sign * (a.dataset[by] - b.dataset[by]) || a.dataset.rank - b.dataset.rank,
    );
    list.append(...cards);
  }

  function select(card) {
    if (current) current.classList.remove("current");
    current = card;
    if (!card) return;
    card.classList.add("current");
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  function move(step) {
    const shown = cards.filter((card) => !card.hidden);
    if (!shown.length) return;
    const at = shown.indexOf(current);
    const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + step));
    select(shown[next]);
  }

  function setMark(card, mark) {
    if (mark) marks.set(card.dataset.id, mark);
    else marks.delete(card.dataset.id);
    show(card);
    keep();
    tell();
  }

  // A cell that begins like a formula would be computed by a spreadsheet.
  function cell(value) {
    const isNumber = value.trim() !== "" && Number.isFinite(Number(value));
    const safe = /^[=+\-@\t\r]/.test(value) && !isNumber ? "'" + value : value;
    return /[",\r\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  }

  function save() {
    const rows = [["sample_id", "mark", "price", "expected", "reason"]];
    for (const card of [...cards].sort((a, b) => a.dataset.rank - b.dataset.rank)) {
      const { id, price, expected, reason } = card.dataset;
      if (marks.has(id)) rows.push([id, marks.get(id), price, expected, reason]);
    }
    const text = rows.map((row) => row.map(cell).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    field("status").textContent = `${rows.length - 1} marks saved in marks.csv.`;
  }

  const keys = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => search.focus(),
    s: save,
  };
  for (const [key, mark] of [["w", "wrong"], ["r", "right"], ["l", "later"], ["u", ""]])
    keys[key] = () => {
      if (!current) return;
      setMark(current, mark);
      if (mark) move(1);
    };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isField = event.target.matches("input, select");
    if (event.key === "Escape" && isField) {
      event.preventDefault();
      event.target.blur();
      if (event.target === search) {
        search.value = "";
        filter();
      }
    }
    if (isField || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  list.addEventListener("click", (event) => {
    const card = event.target.closest("#list > li");
    const button = event.target.closest("button[data-mark]");
    if (button) {
      const mark = button.dataset.mark;
      setMark(card, marks.get(card.dataset.id) === mark ? "" : mark);
    }
    if (card && card !== current) select(card);
    if (button) button.focus({ preventScroll: true });
  });
  for (const input of filters) input.addEventListener("input", filter);
  field("sort").addEventListener("change", sort);
  field("save").addEventListener("click", save);
  read();
  cards.forEach(show);
  filter();
})();
