// Elements, words for numbers, and lists that change in place.
// No markup is ever made from text: what comes from the API is only set as text.

/** h("p", { class: "note", onclick: fn, data: { key: "x" } }, child, ...) */
export function h(tag, attributes, ...children) {
  const svg = SVG.has(tag);
  const el = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(el.dataset, value);
    else if (name === "style") Object.assign(el.style, value);
    else if (name === "value") el.value = value;
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}
const SVG = new Set(["svg", "g", "line", "rect", "circle", "path", "text"]);

export const $ = (id) => document.getElementById(id);

/** Sets a text only where it is another: a tick touches little. */
export function say(el, text) {
  if (el.said === text) return;
  el.said = text;
  el.textContent = text;
}
export function setClass(el, name) {
  if (el.classed === name) return;
  el.classed = name;
  el.className = name;
}

// ---- words ----

// toLocaleString() makes one of these each time, which costs more than all else of a second.
const formats = [];
const format = (digits) => (formats[digits] ||= new Intl.NumberFormat("en", { maximumFractionDigits: digits }));

export function number(x, digits) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  const most = digits !== undefined ? digits : size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size === 0 ? 0 : 3;
  return format(most).format(x);
}
export function ms(x) {
  if (x === null || x === undefined) return "–";
  return x >= 1000 ? number(x / 1000) + " s" : number(x) + " ms";
}
export function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : number(share * 100, digits) + " %";
}
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return number(n, i > 1 ? 1 : 0) + " " + units[i];
}
const two = (n) => (n < 10 ? "0" : "") + n;
export function clock(value, seconds = true) {
  const d = new Date(value);
  if (Number.isNaN(d.getTime())) return "–";
  return `${two(d.getHours())}:${two(d.getMinutes())}${seconds ? ":" + two(d.getSeconds()) : ""}`;
}
export const words = (text) => String(text).replace(/_/g, " ").toLowerCase();

// ---- parts of panels ----

let speak;
export function toast(text, bad) {
  const el = $("toast");
  el.textContent = text;
  el.className = bad ? "shown bad" : "shown";
  clearTimeout(speak);
  speak = setTimeout(() => { el.className = ""; }, bad ? 8000 : 4000);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied: ${what || text}`);
  } catch {
    toast(text);
  }
}

/** The head of a panel: its name, a note, buttons. Returns { note }. */
export function head(panel, title, curl, ...more) {
  const note = h("span", { class: "note" });
  const button = curl && h("button", { type: "button", class: "quiet", "aria-label": `Copy as curl: ${title}`, onclick: () => copy(curl(), "the curl line") }, "Copy as curl");
  panel.replaceChildren(h("div", { class: "head" }, h("h2", { id: panel.id + "-h" }, title), note, h("span", { class: "grow" }), more, button));
  return { note };
}

export const badge = (text, level) => h("span", { class: "badge " + (level || "") }, text);

export function table(caption, columns, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col", class: c.right ? "right" : "" }, c.title || c)))),
      h("tbody", {}, rows)));
}

/** The table behind a chart: made when it is opened, and again at each change while it is. */
export function behind(name, make) {
  const body = h("div", {});
  const el = h("details", { class: "behind" }, h("summary", {}, `${name} as a table`), body);
  const refresh = () => { if (el.open) body.replaceChildren(make()); };
  el.addEventListener("toggle", refresh);
  return { el, refresh };
}

/** Children of `into` are those of `items`, by key; one is only made anew when what it shows has changed, and keeps the focus. */
export function keyed(into, items, key, make, empty) {
  const old = new Map([...into.children].map((el) => [el.dataset.item, el]));
  const list = items.map((item) => {
    const id = String(key(item)), text = JSON.stringify(item), before = old.get(id);
    if (before && (before.shows === text || before.querySelector("[data-dirty]"))) return before;
    const el = make(item);
    el.dataset.item = id;
    el.shows = text;
    if (before && before.contains(document.activeElement)) {
      const focus = document.activeElement.dataset.focus;
      queueMicrotask(() => focus && el.querySelector(`[data-focus="${focus}"]`)?.focus());
    }
    for (const open of before ? before.querySelectorAll("details[open][data-focus]") : []) {
      el.querySelector(`details[data-focus="${open.dataset.focus}"]`)?.setAttribute("open", "");
    }
    return el;
  });
  if (!list.length && empty) list.push(h("p", { class: "muted", data: { item: "-" } }, empty));
  if (list.length !== into.children.length || list.some((el, i) => into.children[i] !== el)) into.replaceChildren(...list);
}
