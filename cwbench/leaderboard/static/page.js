"use strict";
// Everything is text until proven otherwise: elements are made, never parsed, and names only become textContent.
const { tables, entries } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const WORST = "worst case",
  Z = 1.959963984540054,
  FIELDS = ["dataset", "threat", "suite", "access", "data", "q", "view"];
const form = $("filters"),
  detail = $("detail"),
  status = $("status");
const picked = [];

const percent = (share) => (share === null || share === undefined ? "–" : (100 * share).toFixed(1));
const span = (pair) => (pair ? `[${percent(pair[0])}, ${percent(pair[1])}]` : "–");
const threat = (table) => `${table.norm} eps ${table.eps}`;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function drawn(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const named = (tag, text, properties = {}) => make(tag, properties, make("bdi", { text, title: text }));

// Wilson's interval of a proportion, as cwbench/report/intervals.py has it.
function wilson(correct, n) {
  if (!n) return null;
  const share = correct / n,
    scale = 1 + (Z * Z) / n,
    centre = share + (Z * Z) / (2 * n);
  const half = Z * Math.sqrt((share * (1 - share)) / n + (Z / (2 * n)) ** 2);
  return [correct === 0 ? 0 : (centre - half) / scale, correct === n ? 1 : (centre + half) / scale];
}

// ---- the state is the fragment of the address, so that a link keeps the view

const state = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
function address(changes) {
  const next = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  return `#${next}`;
}
function go(changes) {
  location.hash = address(changes);
}
function keep(changes) {
  history.replaceState(null, "", address(changes));
  show();
}

// ---- rows

// Cells are found by the key of their column, which its heading has: columns may be added and moved in the template alone.
const sections = [...document.querySelectorAll("section.table")];
const columns = sections.map((section) => [...section.querySelectorAll("thead th")].map((head) => head.dataset.column));
const rows = tables.flatMap((table, t) => table.rows.map((row, r) => ({ ...row, table, t, r })));
for (const row of rows) {
  row.element = document.querySelector(`[data-table="${row.t}"] [data-row="${row.r}"]`);
  row.cells = Object.fromEntries([...row.element.children].map((cell, place) => [columns[row.t][place], cell]));
  row.text = [row.subject, row.backbone, row.recipe, row.data, ...row.table.classes].join("\n").toLowerCase();
}

// The condition that a row is judged by: the worst case over all attacks, or its strongest attack of one kind of access.
function judged(row, access) {
  if (!access) return WORST;
  if (access === "clean") return "clean";
  const attacks = row.table.attacks.filter((attack) => attack.access === access).map((attack) => attack.label);
  return attacks.reduce((a, b) => (a && row.conditions[a].overall <= row.conditions[b].overall ? a : b), null);
}

const KEYS = {
  rank: (row) => row.rank,
  ranks: (row) => row.best_rank,
  subject: (row) => row.subject.toLowerCase(),
  backbone: (row) => row.backbone || "",
  data: (row) => row.data,
  seeds: (row) => row.seeds.length,
  clean: (row) => row.conditions.clean.overall,
  robust: (row) => row.now?.overall,
  worst: (row) => row.now?.worst,
  low: (row) => row.now?.interval?.[0],
  name: (row) => (row.now ? row.table.classes[row.now.worst_class] : ""),
  corrected: (row) => row.corrected,
  gap: (row) => row.now?.gap,
  verified: (row) => row.means,
};
const RISING = ["rank", "ranks", "subject", "backbone", "data", "name", "gap"];

function sort(key, falling) {
  const value = KEYS[key],
    sign = falling ? -1 : 1;
  for (const section of sections) {
    const own = rows.filter((row) => sections[row.t] === section).map((row) => [value(row) ?? -1, row]);
    own.sort(([a, x], [b, y]) => (a < b ? -sign : a > b ? sign : x.r - y.r));
    section.querySelector("tbody").append(...own.map(([, row]) => row.element));
    for (const head of section.querySelectorAll("[data-sort]")) {
      if (head.dataset.sort === key) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }
}

let shownAccess = null,
  shownSort = null;
function show() {
  const now = state();
  for (const name of FIELDS)
    if (form.elements[name].value !== (now[name] || "")) form.elements[name].value = now[name] || "";
  const access = now.access || "";
  if (access !== shownAccess) {
    for (const row of rows) {
      const name = judged(row, access),
        cells = row.cells;
      row.now = name && row.conditions[name];
      cells.robust.textContent = percent(row.now?.overall);
      cells.worst.textContent = percent(row.now?.worst);
      cells.low.textContent = span(row.now?.interval);
      cells.name.firstChild.textContent = row.now ? (row.table.classes[row.now.worst_class] ?? "–") : "–";
      cells.gap.textContent = percent(row.now?.gap);
    }
    shownAccess = access;
    shownSort = null;
  }
  const [key, falling] = (now.sort || (access ? "worst,down" : "rank")).split(",");
  if (`${key},${falling}` !== shownSort && KEYS[key]) {
    sort(key, falling === "down");
    shownSort = `${key},${falling}`;
  }
  const words = (now.q || "").toLowerCase().split(/\s+/).filter(Boolean);
  let visible = 0;
  const inTable = tables.map(() => 0);
  for (const row of rows) {
    const fits =
      (!now.dataset || row.table.dataset === now.dataset) &&
      (!now.threat || threat(row.table) === now.threat) &&
      (!now.suite || row.table.suite === now.suite) &&
      (!now.data || row.data === now.data) &&
      words.every((word) => row.text.includes(word));
    if (row.element.hidden === fits) row.element.hidden = !fits;
    row.fits = fits;
    visible += fits;
    inTable[row.t] += fits;
  }
  sections.forEach((section, t) => {
    section.hidden = !inTable[t];
    section.querySelector(".heatmap")?.remove();
    section.querySelector(".scroll").hidden = now.view === "heat";
    if (now.view === "heat" && inTable[t]) section.append(heatmap(t));
  });
  const looking = Boolean(now.entry || now.compare);
  detail.hidden = !looking;
  $("tables").hidden = form.hidden = looking;
  if (now.entry) entryView(now.entry, now.under || WORST);
  else if (now.compare) compareView(now.compare.split(","), now.under || WORST);
  else
    status.textContent =
      `${visible.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` +
      (access ? `, judged by ${access === "clean" ? "clean images" : `the strongest ${access} attack`}` : "");
}

// ---- heat map of defenses × classes

const heat = (share) => (share === null || share === undefined ? "none" : `h${Math.round(10 * share)}`);
const MOST_COLUMNS = 50;

function heatmap(t) {
  const table = tables[t],
    groups = Object.keys(table.superclasses),
    many = table.classes.length > MOST_COLUMNS;
  const own = rows
    .filter((row) => row.t === t && row.fits)
    .sort(
      (a, b) =>
        [...a.element.parentNode.children].indexOf(a.element) - [...b.element.parentNode.children].indexOf(b.element),
    );
  const mean = (index) => own.reduce((sum, row) => sum + (row.now?.classes[index] ?? 1), 0);
  let columns = table.classes.map((name, index) => ({ name, value: (row) => row.now?.classes[index], index }));
  let note = "";
  if (many && groups.length) {
    columns = groups.map((name) => ({ name, value: (row) => row.now?.superclasses[name] }));
    note = "Means of the superclasses.";
  } else if (many) {
    columns = columns.sort((a, b) => mean(a.index) - mean(b.index)).slice(0, MOST_COLUMNS);
    note = `The ${MOST_COLUMNS} classes with the lowest mean.`;
  }
  const head = make(
    "tr",
    {},
    make("th", { scope: "col", text: "defense" }),
    ...columns.map((column) => named("th", column.name, { scope: "col" })),
  );
  const body = own.map((row) =>
    make(
      "tr",
      {},
      link(row),
      ...columns.map((column) => make("td", { class: heat(column.value(row)), text: percent(column.value(row)) })),
    ),
  );
  const grid = make(
    "table",
    { class: "heat" },
    make("caption", { class: "hidden", text: `Accuracy of each class on ${table.dataset}, in per cent` }),
    make("thead", {}, head),
    make("tbody", {}, ...body),
  );
  return make(
    "div",
    { class: "scroll heatmap", tabindex: "0", role: "region", "aria-label": `Heat map of ${table.dataset}` },
    make("p", { class: "small", text: `Accuracy in %, under what Access says. ${note}` }),
    grid,
  );
}

function link(row) {
  const anchor = make(
    "a",
    { href: address({ entry: row.entries[0], compare: "" }) },
    make("bdi", { text: row.subject, title: row.subject }),
  );
  anchor.addEventListener("click", () => {
    anchor.href = address({ entry: row.entries[0], compare: "" });
  });
  return make("th", { scope: "row", role: "rowheader" }, anchor);
}

// ---- one entry, and two

function shares(entry, condition) {
  const n = tables[entry.table].n_per_class;
  return entry.correct[condition]?.map((correct, index) => ({
    share: n[index] ? correct / n[index] : null,
    interval: wilson(correct, n[index]),
  }));
}

function heading(text) {
  const title = named("h2", text, { tabindex: "-1" });
  detail.replaceChildren(
    make("p", {}, make("a", { href: address({ entry: "", compare: "", under: "" }), text: "← all tables" })),
    title,
  );
  status.textContent = text;
  return title;
}

function chooser(conditions, under) {
  const select = make(
    "select",
    {},
    ...conditions.map((name) =>
      make("option", { value: name, text: name, ...(name === under ? { selected: "" } : {}) }),
    ),
  );
  select.addEventListener("change", () => {
    keep({ under: select.value });
    detail.querySelector("select").focus();
  });
  return make("label", {}, "Under ", select);
}

const missing = (text) => {
  heading("Not on this board");
  detail.append(make("p", { text }));
};

function entryView(id, under) {
  const entry = Object.hasOwn(entries, id) ? entries[id] : undefined;
  if (!entry) return missing(`There is no entry ${id}.`);
  const table = tables[entry.table],
    row = table.rows[entry.row],
    conditions = Object.keys(entry.correct);
  if (!Object.hasOwn(entry.correct, under)) under = WORST;
  const title = heading(`${row.subject} on ${table.dataset}, ${table.norm} eps ${entry.eps}, seed ${entry.seed}`);
  const seeds = row.entries.map((other, index) =>
    other === id
      ? make("strong", { text: `seed ${row.seeds[index]} ` })
      : make("a", { href: address({ entry: other }), text: `seed ${row.seeds[index]} ` }),
  );
  const means = row.verified[row.entries.indexOf(id)];
  detail.append(
    make(
      "p",
      {},
      ...seeds,
      make("span", {
        text: means
          ? ` · verified: ${means === "examples" ? "its saved examples were predicted again" : "attacks ran again on a random sample"}`
          : " · not verified",
      }),
    ),
  );
  for (const [name, message] of entry.warnings)
    detail.append(make("p", { class: "warning", text: `Warning: ${name}: ${message}` }));
  detail.append(
    chooser(conditions, under),
    make("h3", { text: `Accuracy of each class, clean (pale) and under ${under}` }),
    bars(table, shares(entry, "clean"), shares(entry, under), under),
  );
  detail.append(together(table, row, under));
  detail.append(make("h3", { text: "Every class under every attack, in %" }), everything(table, entry, conditions));
  detail.append(make("h3", { text: `Confusion under ${under}` }), confusion(table, entry.mistakes[under]));
  detail.append(
    make("h3", { text: "Cost" }),
    costs(table, entry),
    make("h3", { text: "Where it comes from" }),
    origin(entry, row),
  );
  if (document.activeElement === document.body || document.activeElement?.closest?.("main") === null)
    title.focus({ preventScroll: true });
}

function bars(table, clean, under, name) {
  const height = 24,
    left = 150,
    width = 520,
    top = 20;
  const svg = drawn("svg", {
    viewBox: `0 0 ${left + width + 190} ${top + height * table.classes.length + 8}`,
    width: left + width + 190,
    role: "img",
    "aria-label": `Bars of the accuracy of ${table.classes.length} classes under ${name}; the table below has the numbers`,
  });
  for (let tick = 0; tick <= 100; tick += 25) {
    const x = left + (width * tick) / 100;
    svg.append(
      drawn("line", { x1: x, x2: x, y1: top, y2: top + height * table.classes.length, class: "grid" }),
      drawn("text", { x, y: 14, "text-anchor": "middle" }, `${tick} %`),
    );
  }
  table.classes.forEach((label, index) => {
    const y = top + height * index,
      now = under[index];
    svg.append(
      drawn(
        "text",
        { x: left - 8, y: y + 16, "text-anchor": "end" },
        label.length > 20 ? `${label.slice(0, 19)}…` : label,
      ),
    );
    if (now.share === null) return;
    svg.append(
      drawn("rect", { x: left, y: y + 3, width: width * clean[index].share, height: height - 6, class: "ghost" }),
      drawn("rect", { x: left, y: y + 6, width: width * now.share, height: height - 12, class: "bar" }),
    );
    const [low, high] = now.interval.map((value) => left + width * value);
    for (const [x1, x2, y1, y2] of [
      [low, high, 12, 12],
      [low, low, 8, 16],
      [high, high, 8, 16],
    ])
      svg.append(drawn("line", { x1, x2, y1: y + y1, y2: y + y2, class: "whisker" }));
    svg.append(drawn("text", { x: left + width + 8, y: y + 16 }, `${percent(now.share)} ${span(now.interval)}`));
  });
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Bars" }, svg);
}

// What the classes say together; means over the seeds of the row, as the ranking has them.
function together(table, row, under) {
  const now = row.conditions[under],
    list = make("dl"),
    name = table.classes[now.worst_class] ?? "–";
  const facts = {
    "all classes": percent(now.overall),
    "worst class": `${name}: ${percent(now.worst)} ${span(now.interval)}`,
    gap: percent(now.gap),
    spread: percent(now.spread),
  };
  if (under === WORST) facts["worst class, corrected for its selection"] = percent(row.corrected);
  if (now.tenth !== null) facts["mean of the worst tenth"] = percent(now.tenth);
  facts["classes from 0 to 100 %, in tens"] = now.per_interval.join(" ");
  for (const [label, value] of Object.entries(facts)) list.append(make("dt", { text: label }), named("dd", value));
  return make(
    "div",
    {},
    make("h3", {
      text: `Together, in % (${row.seeds.length === 1 ? "one seed" : `mean of ${row.seeds.length} seeds`})`,
    }),
    list,
  );
}

function grid(kind, head, body, caption) {
  const parts = [
    make("caption", { class: "hidden", text: caption }),
    make("thead", {}, make("tr", {}, ...head.map((text) => named("th", text, { scope: "col" })))),
    make("tbody", {}, ...body),
  ];
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", { class: kind }, ...parts),
  );
}

function everything(table, entry, conditions) {
  const columns = conditions.map((name) => shares(entry, name));
  const body = table.classes.map((label, index) =>
    make(
      "tr",
      {},
      named("th", label, { scope: "row" }),
      make("td", { text: table.n_per_class[index] }),
      ...columns.map((column) =>
        make("td", {
          class: heat(column[index].share),
          text: percent(column[index].share),
          title: span(column[index].interval),
        }),
      ),
    ),
  );
  for (const [label, group] of Object.entries(table.superclasses)) {
    const n = group.reduce((sum, index) => sum + table.n_per_class[index], 0);
    const means = columns
      .map((column) => group.map((index) => column[index].share).filter((share) => share !== null))
      .map((own) => (own.length ? own.reduce((a, b) => a + b) / own.length : null));
    body.push(
      make(
        "tr",
        {},
        named("th", `mean of ${label}`, { scope: "row" }),
        make("td", { text: n }),
        ...means.map((mean) => make("td", { class: heat(mean), text: percent(mean) })),
      ),
    );
  }
  return grid("heat", ["class", "n", ...conditions], body, "Accuracy of every class under every attack");
}

function confusion(table, mistakes) {
  if (!mistakes)
    return make("p", { text: "The worst case mixes attacks; choose one of them for its confusion matrix." });
  const K = table.classes;
  if (mistakes.commonest)
    return grid(
      "matrix",
      ["true class", "taken for", "examples"],
      mistakes.commonest.map(([count, truth, guess]) =>
        make("tr", {}, named("th", K[truth], { scope: "row" }), named("td", K[guess]), make("td", { text: count })),
      ),
      "The commonest mistakes",
    );
  const groups = Object.values(table.superclasses),
    rest = K.map((_, index) => index).filter((index) => !groups.flat().includes(index));
  const order = [...groups.flat(), ...rest],
    starts = new Set();
  groups.reduce((sum, group) => {
    starts.add(sum);
    return sum + group.length;
  }, 0);
  const edge = (i, j) =>
    groups.length ? `${starts.has(i) ? " edge-top" : ""}${starts.has(j) ? " edge-left" : ""}` : "";
  const body = order.map((truth, i) =>
    make(
      "tr",
      {},
      named("th", K[truth], { scope: "row" }),
      ...order.map((guess, j) => {
        const count = mistakes.confusion[truth][guess],
          n = table.n_per_class[truth];
        return make("td", {
          class: `${count ? `m${Math.ceil((5 * count) / n)}` : "none"}${truth === guess ? " right" : ""}${edge(i, j)}`,
          text: count || "·",
        });
      }),
    ),
  );
  return grid(
    "matrix",
    ["true \\ predicted", ...order.map((index) => K[index])],
    body,
    `Confusion matrix: rows true classes, columns predicted${groups.length ? ", in blocks of superclasses" : ""}`,
  );
}

function costs(table, entry) {
  const each = (value, n) => (value === null || !n ? "–" : (value / n).toFixed(1));
  const body = Object.entries(entry.cost).map(([label, cost]) =>
    make(
      "tr",
      {},
      named("th", label, { scope: "row" }),
      ...[
        table.attacks.find((attack) => attack.label === label).access,
        cost.examples,
        each(cost.forward, cost.examples),
        each(cost.backward, cost.examples),
        each(cost.queries, cost.examples),
        cost.seconds.toFixed(1),
      ].map((text) => make("td", { text })),
    ),
  );
  return grid(
    "matrix",
    ["attack", "access", "attacked", "forward each", "backward each", "queries each", "seconds"],
    body,
    "What each attack spent",
  );
}

function origin(entry, row) {
  const list = make("dl");
  const facts = {
    entry: entry.id,
    report: entry.digest,
    extra_data: row.data,
    ...(entry.training || {}),
    ...entry.provenance,
  };
  if (row.defense) facts.defense = row.defense;
  for (const [label, notes] of Object.entries(entry.notes)) facts[`note on ${label}`] = notes.join("; ");
  for (const [name, value] of Object.entries(facts))
    if (value !== null)
      list.append(
        make("dt", { text: name.replaceAll("_", " ") }),
        named("dd", typeof value === "object" ? JSON.stringify(value) : String(value)),
      );
  return list;
}

function compareView(ids, under) {
  const [a, b] = ids.map((id) => (Object.hasOwn(entries, id) ? entries[id] : undefined));
  if (!a || !b || a === b) return missing("A comparison needs two entries.");
  if (a.table !== b.table)
    return missing("These two were judged on other data, under another threat or suite: they cannot be compared.");
  const table = tables[a.table],
    names = [a, b].map((entry) => `${table.rows[entry.row].subject} (seed ${entry.seed})`);
  if (!a.correct[under]) under = WORST;
  const title = heading(`${names[0]} and ${names[1]} on ${table.dataset}`);
  detail.append(
    chooser(Object.keys(a.correct), under),
    make("p", {
      class: "small",
      text: "Differences in points with Newcombe's interval (1998, method 10), for unpaired proportions; bold where it leaves out 0. The paired test needs both reports: cwbench report compare.",
    }),
  );
  const [first, second] = [shares(a, under), shares(b, under)];
  const body = table.classes.map((label, index) => {
    const p = first[index],
      q = second[index],
      cells = [named("th", label, { scope: "row" }), make("td", { text: table.n_per_class[index] })];
    if (p.share === null)
      return make(
        "tr",
        {},
        ...cells,
        ...Array(4)
          .fill()
          .map(() => make("td", { text: "–" })),
      );
    const d = q.share - p.share,
      [l1, u1] = p.interval,
      [l2, u2] = q.interval;
    const low = d - Math.hypot(q.share - l2, u1 - p.share),
      high = d + Math.hypot(u2 - q.share, p.share - l1);
    const signed = (value) => `${value < 0 ? "−" : "+"}${percent(Math.abs(value))}`;
    return make(
      "tr",
      {},
      ...cells,
      make("td", { class: heat(p.share), text: percent(p.share) }),
      make("td", { class: heat(q.share), text: percent(q.share) }),
      make("td", { class: low > 0 || high < 0 ? "distinct" : "", text: signed(d) }),
      make("td", { text: `[${signed(low)}, ${signed(high)}]` }),
    );
  });
  detail.append(grid("heat", ["class", "n", ...names, "difference", "95 % interval"], body, `Both under ${under}`));
  if (document.activeElement === document.body) title.focus({ preventScroll: true });
}

// ---- controls

function fill(name, values, all) {
  const options = [...new Set(values)].sort().map((value) => make("option", { value, text: value }));
  form.elements[name].append(make("option", { value: "", text: all }), ...options);
}
fill(
  "dataset",
  tables.map((table) => table.dataset),
  "all",
);
fill("threat", tables.map(threat), "all");
fill(
  "suite",
  tables.map((table) => table.suite),
  "all",
);
fill(
  "data",
  rows.map((row) => row.data),
  "any",
);
fill(
  "access",
  tables.flatMap((table) => table.attacks.map((attack) => attack.access)),
  "all: worst case",
);
form.elements.access.append(make("option", { value: "clean", text: "clean images" }));

for (const row of rows) {
  row.means = row.cells.verified.textContent;
  row.cells.subject.replaceWith((row.cells.subject = link(row)));
  const box = make("input", { type: "checkbox", "aria-label": `Compare ${row.subject}` });
  box.addEventListener("change", () => {
    if (box.checked) picked.push({ box, row });
    else
      picked.splice(
        picked.findIndex((pick) => pick.box === box),
        1,
      );
    if (picked.length > 2) picked.shift().box.checked = false;
    $("compare").disabled = picked.length !== 2;
  });
  row.cells.pick.append(box);
}
for (const head of document.querySelectorAll("[data-sort]")) {
  const key = head.dataset.sort,
    button = make("button", { type: "button", text: head.textContent });
  button.addEventListener("click", () => {
    const [now, way] = (state().sort || "rank").split(","),
      first = RISING.includes(key) ? "up" : "down";
    keep({ sort: `${key},${now === key ? (way === "down" ? "up" : "down") : first}` });
  });
  head.replaceChildren(button);
}
$("compare").addEventListener("click", () =>
  go({ compare: picked.map(({ row }) => row.entries[0]).join(","), entry: "" }),
);
for (const name of FIELDS)
  form.elements[name].addEventListener("input", (event) => keep({ [name]: event.target.value }));
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", show);
form.hidden = false;
show();
