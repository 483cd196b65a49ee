// What is seen first: findings, tiles, routes, resources. All of it moves each second, so elements are kept and only texts are set.
import { badge, bytes, clock, h, head, keyed, ms, number, percent, say, setClass, table } from "./dom.js";
import { curl } from "./api.js";

const LEVELS = { red: "Act", amber: "Look", green: "Fine" };

export class Findings {
  constructor(panel) {
    this.list = panel.querySelector("ul");
    this.note = panel.querySelector(".note");
  }
  set(list) {
    this.list.removeAttribute("aria-busy");
    while (this.list.children.length > list.length) this.list.lastChild.remove();
    list.forEach((f, i) => {
      let li = this.list.children[i];
      if (!li || !li.link) {
        const made = h("li", {});
        made.mark = h("span", {});
        made.link = h("a", {});
        made.append(made.mark, made.link);
        if (li) li.replaceWith(made); else this.list.append(made);
        li = made;
      }
      setClass(li, f.level);
      setClass(li.mark, "badge " + f.level);
      say(li.mark, LEVELS[f.level]);
      say(li.link, f.text);
      if (li.link.getAttribute("href") !== f.link) li.link.setAttribute("href", f.link);
    });
    const worst = list.length ? list[0].level : "green", n = list.filter((f) => f.level === worst).length;
    document.title = (worst === "green" ? "" : `(${n}) `) + "Perilune";
  }
}

export class Tiles {
  constructor(section) {
    this.section = section;
    this.parts = new Map();
  }
  set(list) {
    for (const t of list) {
      let one = this.parts.get(t.name);
      if (!one) {
        one = { value: h("span", { class: "value" }), unit: h("span", { class: "unit" }), detail: h("p", { class: "detail" }), state: h("span", { class: "hidden" }) };
        one.el = h("div", { role: "group", "aria-label": t.label }, h("h3", {}, t.label, one.state), h("p", { class: "figure" }, one.value, one.unit), one.detail);
        this.parts.set(t.name, one);
        this.section.append(one.el);
      }
      setClass(one.el, "tile " + t.level);
      say(one.value, number(t.value));
      say(one.unit, t.value === null ? "" : t.unit);
      say(one.detail, t.detail);
      say(one.state, t.level === "green" ? "" : t.level === "red" ? ", critical" : ", worth a look");
    }
  }
}

const FIRST = 12;

// Phases in the order of a request's life, each with a colour of the palette.
const PHASES = ["queue", "limit", "pool_wait", "db", "redis", "upstream_connect", "upstream_first_byte", "upstream_body", "task", "lua", "cache", "compress", "write"];
const phaseClass = (name) => "ph-" + (PHASES.includes(name) ? name : "other");
const phaseOrder = (name) => { const i = PHASES.indexOf(name); return i < 0 ? 99 : i; };

export class Routes {
  constructor(panel) {
    this.more = h("button", { type: "button", class: "quiet", hidden: true, "aria-expanded": "false", onclick: () => this.toggle() });
    this.note = head(panel, "Routes by share of total time", () => curl("dashboard?window=60"), this.more).note;
    this.body = h("tbody", {});
    this.legend = h("p", { class: "legend phases" });
    this.rows = new Map();
    this.empty = h("p", { class: "muted" }, "No route was asked for in the last minute.");
    const columns = [["Route", ""], ["Share", "right"], ["Where its time goes", "phase"], ["Requests/s", "right"], ["p50", "right"], ["p95", "right"], ["p99", "right"], ["Errors", "right"]];
    panel.append(this.legend, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Routes by share of total time" }, h("table", { class: "routes" },
      h("caption", { class: "hidden" }, "Routes by share of total time, with the shares of their phases"),
      h("thead", {}, h("tr", {}, columns.map(([t, c]) => h("th", { scope: "col", class: c }, t)))), this.body)), this.empty);
  }

  toggle() {
    this.all = !this.all;
    this.more.setAttribute("aria-expanded", String(this.all));
    this.set(this.list);
  }

  row(name) {
    const cell = (c) => h("td", { class: c });
    const r = { share: cell("right"), bar: h("div", { class: "bar-of", role: "img" }), rps: cell("right"), p50: cell("right"), p95: cell("right"), p99: cell("right"), errors: cell("right"), parts: new Map() };
    r.el = h("tr", {}, h("th", { scope: "row" }, name), r.share, h("td", { class: "phase" }, r.bar), r.rps, r.p50, r.p95, r.p99, r.errors);
    return r;
  }

  phases(r, phases) {
    const list = Object.entries(phases).sort((a, b) => phaseOrder(a[0]) - phaseOrder(b[0]));
    const text = list.filter(([, s]) => s >= 0.01).sort((a, b) => b[1] - a[1]).map(([n, s]) => `${n.replace(/_/g, " ")} ${percent(s, 0)}`).join(", ");
    if (r.text === text) return;
    r.text = text;
    r.bar.setAttribute("aria-label", text || "nothing measured");
    r.bar.title = text;
    for (const [n, part] of r.parts) if (!(n in phases)) { part.remove(); r.parts.delete(n); }
    for (const [n, share] of list) {
      let part = r.parts.get(n);
      if (!part) {
        part = h("span", { class: phaseClass(n) });
        r.parts.set(n, part);
        r.bar.append(part);
      }
      part.style.width = (share * 100).toFixed(1) + "%";
    }
  }

  set(all, total) {
    this.list = all;
    const list = this.all ? all : all.slice(0, FIRST);
    this.empty.hidden = list.length > 0;
    this.more.hidden = all.length <= FIRST;
    say(this.more, this.all ? "Show fewer" : `Show ${all.length}`);
    const seen = new Set(), names = new Set();
    list.forEach((route, i) => {
      seen.add(route.name);
      let r = this.rows.get(route.name);
      if (!r) this.rows.set(route.name, (r = this.row(route.name)));
      say(r.share, percent(route.share));
      say(r.rps, number(route.rps));
      say(r.p50, ms(route.p50_ms));
      say(r.p95, ms(route.p95_ms));
      say(r.p99, ms(route.p99_ms));
      say(r.errors, percent(route.error_rate));
      setClass(r.errors, "right" + (route.error_rate >= 0.05 ? " red" : route.error_rate >= 0.01 ? " amber" : ""));
      this.phases(r, route.phases);
      for (const n of Object.keys(route.phases)) names.add(n);
      if (this.body.children[i] !== r.el) this.body.insertBefore(r.el, this.body.children[i] || null);
    });
    for (const [name, r] of this.rows) if (!seen.has(name)) { r.el.remove(); this.rows.delete(name); }
    const key = [...names].sort((a, b) => phaseOrder(a) - phaseOrder(b));
    if (this.key !== key.join()) {
      this.key = key.join();
      this.legend.replaceChildren(...key.map((n) => h("span", { class: "key " + phaseClass(n) }, n.replace(/_/g, " "))));
    }
    if (total !== undefined) say(this.note, total > all.length ? `the first ${all.length} of ${total}` : total === 1 ? "1 route" : `${total} routes`);
  }
}

const HEALTH = { ok: "green", up: "green", warning: "amber", critical: "red", unreachable: "red", absent: "", unknown: "" };

const meter = (label, share, text, level) => {
  const fill = h("span", { class: "fill " + (level || (share >= 0.95 ? "red" : share >= 0.85 ? "amber" : "")) });
  fill.style.width = Math.max(0, Math.min(1, share || 0)) * 100 + "%";
  return h("div", { class: "meter", role: "img", "aria-label": `${label}: ${text}` }, h("span", { class: "what" }, label), h("span", { class: "track" }, fill), h("span", { class: "much" }, text));
};

export class Resources {
  constructor(panel) {
    const { note } = head(panel, "Resources", () => curl("resources"));
    this.note = note;
    this.body = h("div", { class: "cards" });
    panel.append(this.body);
  }

  set(r) {
    say(this.note, r.health === "ok" ? "all in line" : r.health);
    const parts = ["pools", "tasks", "cache", "machine"].map((name) => ({ name, health: r.health_of[name], data: r[name], of: name === "machine" ? r.machine : undefined }));
    keyed(this.body, parts, (p) => p.name, (p) => h("article", { class: "card" }, h("h3", {}, { pools: "Pools of connections", tasks: "Task threads", cache: "Cache", machine: "Machine" }[p.name], " ",
      badge(p.health, HEALTH[p.health])), this[p.name](p.data)));
  }

  pools(list) {
    if (!list.length) return h("p", { class: "muted" }, "No database and no Redis is configured.");
    const right = (t) => ({ title: t, right: true });
    return [list.map((p) => meter(p.id, p.max ? p.used / p.max : 0, `${p.used} of ${p.max} used`, p.pending_requests > 0 ? "amber" : "")),
      table("Pools of connections", ["Pool", right("Waiting"), right("Wait p95"), right("Use p95"), right("Calls"), right("Errors"), "Health"], list.map((p) => h("tr", {}, h("th", { scope: "row" }, p.id),
        h("td", { class: "right" }, number(p.pending_requests)), h("td", { class: "right" }, ms(p.wait_time_ms?.p95)), h("td", { class: "right" }, ms(p.use_time_ms?.p95)),
        h("td", { class: "right" }, number(p.statements)), h("td", { class: "right" }, number(p.errors)), h("td", {}, badge(p.draining ? "draining" : p.health, HEALTH[p.health])))))];
  }

  tasks(t) {
    const sum = (name) => t.processes.reduce((a, p) => a + p[name], 0), width = sum("width");
    const busy = width ? t.processes.reduce((a, p) => a + p.utilization * p.width, 0) / width : 0;
    return [meter("busy", busy, percent(busy, 0)), meter("queue", sum("max") ? (sum("queued") + sum("running")) / sum("max") : 0, `${sum("queued")} wait, ${sum("running")} run`),
      h("p", { class: "detail" }, `${width} threads in ${t.processes.length} workers, at most ${sum("max")} tasks; ${number(t.kinds.reduce((a, k) => a + k.done, 0))} done, ${number(t.kinds.reduce((a, k) => a + k.failed, 0))} failed`)];
  }

  cache(c) {
    if (!c.available) return h("p", { class: "muted" }, c.reason);
    return [meter("room", c.limit_bytes ? c.bytes / c.limit_bytes : 0, `${bytes(c.bytes)} of ${bytes(c.limit_bytes)}`), h("p", { class: "detail" }, `${number(c.entries)} answers stored, ${number(c.evictions)} pushed out`)];
  }

  machine(m) {
    const cpu = m.cpu || {}, memory = m.memory || {}, disk = m.disk || {}, pressure = m.pressure || {};
    return [cpu.share !== undefined && meter("CPU", cpu.share, `${number(cpu.used_cpus, 1)} of ${number(cpu.usable_cpus, 1)}`),
      memory.share !== undefined && meter("memory", memory.share, `${bytes(memory.used_bytes)} of ${bytes(memory.limit_bytes)}`),
      disk.share !== undefined && meter("disk", disk.share, `${bytes(disk.free_bytes)} free`),
      h("p", { class: "detail" }, `load ${number(cpu.load_1, 2)}; waited for CPU ${percent(pressure.cpu_some_10s)}, disk ${percent(pressure.io_some_10s)}, memory ${percent(pressure.memory_some_10s)}`),
      table("Processes", ["Process", { title: "Memory", right: true }, { title: "Loop late", right: true }, { title: "Files", right: true }], m.processes.map((p) => h("tr", {}, h("th", { scope: "row" }, p.name),
        h("td", { class: "right" }, bytes(p.rss_bytes)), h("td", { class: "right" }, p.loop_lag_ms === undefined ? "" : ms(p.loop_lag_ms)), h("td", { class: "right" }, number(p.open_fds)))))];
  }
}

// ---- issues ----

const SEVERITY = { critical: "red", high: "red", medium: "amber", low: "amber" };
const SPAN = ["Issue", "What", "Most likely cause", "Where", "Since"];

export class Issues {
  constructor(panel) {
    this.note = head(panel, "Issues", () => curl("issues")).note;
    const box = table("Issues", SPAN, []);
    this.box = box;
    this.body = box.querySelector("tbody");
    this.none = h("p", { class: "muted" }, "No issue is open, and none was closed lately.");
    panel.append(box, this.none);
  }
  set(list, learning) {
    this.box.hidden = !list.length;
    this.none.hidden = list.length > 0;
    say(this.note, learning.done ? "what is usual is known" : `still learning: ${learning.ready} of ${learning.things} things are known`);
    keyed(this.body, list, (i) => i.id, (i) => h("tr", { id: i.id, tabindex: "-1", class: i.state === "closed" ? "muted" : "" }, h("th", { scope: "row" }, i.id, " ", badge(i.state === "closed" ? "closed" : i.severity, i.state === "closed" ? "" : SEVERITY[i.severity])),
      h("td", {}, i.title || i.code, i.after && h("span", { class: "muted" }, ` (after: ${i.after.text})`)), h("td", {}, h("code", {}, i.code), " ", i.cause), h("td", {}, (i.affected || []).join(", ") || i.target),
      h("td", { class: "right" }, clock(i.since), i.closed_ms && ` to ${clock(i.closed_ms)}`)));
  }
}
