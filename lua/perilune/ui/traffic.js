// Requests, p95 and errors on one time axis, with markers; and the latency heatmap below the same range.
import { behind, clock, copy, h, head, ms, number, percent, say } from "./dom.js";
import { call, curl } from "./api.js";

const POINTS = 300, COLUMNS = 150;
const KINDS = { reload: "reload", refused: "refused reload", setting: "setting", worker: "worker replaced", anomaly: "anomaly", deploy: "deploy" };

// Colours of the theme in force, asked for once: asking makes the browser settle all styles.
let colors = {};
function color(name) {
  return (colors[name] ||= getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
}
export function forgetColors() { colors = {}; }

// Only what draws axes and grid: the others set inline styles, which the policy of this page forbids, and cost time.
const PLUGINS = ["Axes Plugin", "Gridline Plugin"];
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((Plugin) => PLUGINS.includes(new Plugin().toString()));

/** Time of now, or the one the view is frozen at. */
function range(view) {
  const to = view.frozenAt || Math.floor(Date.now() / 1000);
  return { from: to - view.range, to };
}

// ---- the combined chart ----

export class Traffic {
  constructor(panel, view) {
    this.view = view;
    this.points = [];
    this.markers = [];
    const path = () => `trends?from=-${view.range}`;
    this.note = head(panel, "Traffic, latency, errors", () => curl(path())).note;
    this.summary = h("p", { class: "summary", id: "traffic-summary" }, "Loading");
    this.figures = h("p", { class: "legend", "aria-hidden": "true" });
    this.plot = h("div", { class: "plot", role: "img", "aria-label": "Requests per second, latency p95 and errors over time", "aria-describedby": "traffic-summary" });
    this.table = behind("Traffic", () => this.rows());
    this.marks = h("ul", { class: "marks", "aria-label": "What happened in this time" });
    this.empty = h("div", { class: "empty", hidden: true });
    panel.append(this.empty, this.figures, this.plot, this.summary, this.marks, this.table.el);
  }

  async load() {
    const { from, to } = range(this.view);
    this.step = Math.max(1, Math.ceil(this.view.range / POINTS));
    const { data } = await call(`trends?from=${from}&to=${to}&step=${this.step}`);
    const c = data.columns;
    this.points = c.at_ms.map((at, i) => [at, c.rps[i], c.p95_ms[i], c.errors[i] === null ? null : c.errors[i] / this.step]);
    this.draw();
  }

  /** A second more. Seconds of one step are folded together until the next load. */
  add(second) {
    const points = this.points, at = Math.floor(second.at_ms / 1000 / this.step) * this.step * 1000;
    const last = points[points.length - 1];
    if (last && at < last[0]) return;
    if (last && last[0] === at && this.step > 1) {
      const n = Math.min(this.step, (this.folded = (this.folded || 1) + 1));
      last[1] += (second.rps - last[1]) / n;
      if (second.p95_ms !== null) last[2] = Math.max(last[2] || 0, second.p95_ms);
      last[3] += (second.errors - last[3]) / n;
    } else if (!last || at > last[0]) {
      this.folded = 1;
      points.push([at, second.rps, second.p95_ms, second.errors]);
    }
    const from = (Date.now() / 1000 - this.view.range) * 1000;
    while (points.length && points[0][0] < from) points.shift();
  }

  setMarkers(list) {
    this.markers = list;
    const first = this.points.length ? this.points[0][0] : 0;
    const shown = list.filter((m) => m.at_ms >= first).slice(-8).reverse();
    const key = JSON.stringify(shown);
    if (key === this.shown) return;
    this.shown = key;
    this.marks.replaceChildren(...shown.map((m) => h("li", {}, h("span", { class: "mark " + m.kind }, KINDS[m.kind] || m.kind), " ", h("time", {}, clock(m.at_ms)), " ",
      m.link ? h("a", { href: m.link }, m.text) : m.text)));
  }

  setEmpty(is, address) {
    this.empty.hidden = !is;
    if (!is || this.empty.childElementCount) return;
    const host = address.replace(/^(0\.0\.0\.0|\[::\])/, location.hostname);
    const line = `curl -i http://${host}/`;
    const many = `for i in $(seq 200); do curl -s -o /dev/null http://${host}/; done`;
    this.empty.append(h("p", {}, h("strong", {}, "No request has come yet."), " Send some to the data address, and they appear here within a second:"),
      ...[line, many].map((text) => h("p", { class: "line" }, h("code", {}, text), h("button", { type: "button", class: "quiet", "aria-label": "Copy: " + text, onclick: () => copy(text) }, "Copy"))));
  }

  draw() {
    const { from, to } = range(this.view);
    const data = this.points.length ? this.points : [[from * 1000, null, null, null]];
    const options = { file: data, dateWindow: [from * 1000, to * 1000] };
    if (!this.chart) this.chart = this.make(data, options);
    else this.chart.updateOptions(options);
    this.tell();
    this.table.refresh();
  }

  make(data, options) {
    return new Dygraph(this.plot, data, {
      ...options, labels: ["time", "requests", "p95", "errors"], legend: "never", interactionModel: {}, strokeWidth: 1.5, highlightCircleSize: 3,
      connectSeparatedPoints: false, drawGapEdgePoints: true, includeZero: true, fillAlpha: 0.12, rangeSelectorHeight: 0, axisLabelFontSize: 12, labelsKMB: true, ...this.colors(),
      series: { requests: { fillGraph: true }, p95: { axis: "y2" }, errors: { fillGraph: true, strokeWidth: 1 } },
      axes: {
        x: { drawGrid: false, valueFormatter: (v) => clock(v), axisLabelFormatter: (v) => clock(v, this.view.range < 1800) , pixelsPerLabel: 80 },
        y: { axisLabelWidth: 44, axisLabelFormatter: (v) => (v ? number(v) : "") },
        y2: { axisLabelWidth: 56, drawGrid: false, independentTicks: true, axisLabelFormatter: (v) => (v ? ms(v) : ""), valueRange: [0, null] },
      },
      underlayCallback: (ctx, area, chart) => this.underlay(ctx, area, chart),
      highlightCallback: (event, x, points) => this.legend(x, points),
      unhighlightCallback: () => this.tell(),
    });
  }

  colors() {
    return { colors: [color("c-requests"), color("c-latency"), color("c-errors")], gridLineColor: color("grid"), axisLineColor: color("grid") };
  }

  recolor() {
    this.chart?.updateOptions(this.colors());
  }

  underlay(ctx, area, chart) {
    for (const m of this.markers) {
      const x = chart.toDomXCoord(m.at_ms);
      if (x < area.x || x > area.x + area.w) continue;
      ctx.strokeStyle = ctx.fillStyle = color(m.kind === "anomaly" ? "amber" : m.kind === "refused" || m.kind === "worker" ? "red" : "accent");
      ctx.setLineDash(m.kind === "anomaly" ? [2, 3] : []);
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(Math.round(x) + 0.5, area.y);
      ctx.lineTo(Math.round(x) + 0.5, area.y + area.h);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(x - 4, area.y);
      ctx.lineTo(x + 4, area.y);
      ctx.lineTo(x, area.y + 6);
      ctx.fill();
    }
  }

  legend(at, points) {
    const value = Object.fromEntries(points.map((p) => [p.name, p.yval]));
    this.says(at, value.requests, value.p95, value.errors);
  }

  says(at, rps, p95, errors) {
    if (!this.parts) {
      const part = (name) => { const el = h("b", {}); this.figures.append(h("span", { class: "key " + name }, name === "p95" ? "latency p95" : name, " ", el)); return el; };
      this.parts = { at: h("span", { class: "muted" }), requests: part("requests"), p95: part("p95"), errors: part("errors") };
      this.figures.append(this.parts.at);
    }
    say(this.parts.at, at ? clock(at) : "");
    say(this.parts.requests, number(rps) + " /s");
    say(this.parts.p95, ms(p95));
    say(this.parts.errors, number(errors) + " /s");
  }

  tell() {
    const seen = this.points.filter((p) => p[1] > 0), last = this.points[this.points.length - 1];
    if (last) this.says(last[0], last[1], last[2], last[3]);
    if (!seen.length) return say(this.summary, "Nothing was measured in this time.");
    let most = seen[0], slow = seen[0], errors = 0, sum = 0;
    for (const p of seen) {
      if (p[1] > most[1]) most = p;
      if ((p[2] || 0) > (slow[2] || 0)) slow = p;
      errors += (p[3] || 0) * this.step;
      sum += p[1];
    }
    say(this.summary, `${number(sum / seen.length)} requests/s on average, most ${number(most[1])} at ${clock(most[0])}; p95 at most ${ms(slow[2])} at ${clock(slow[0])}; ${number(errors, 0)} errors.`);
  }

  rows() {
    const every = Math.max(1, Math.floor(this.points.length / 30));
    const list = this.points.filter((p, i) => i % every === 0).reverse();
    return h("table", {}, h("caption", {}, "Every ", String(every * this.step), " s, the newest first"),
      h("thead", {}, h("tr", {}, ["Time", "Requests/s", "p95", "Errors/s"].map((t, i) => h("th", { scope: "col", class: i ? "right" : "" }, t)))),
      h("tbody", {}, list.map((p) => h("tr", {}, h("td", {}, clock(p[0])), h("td", { class: "right" }, number(p[1])), h("td", { class: "right" }, ms(p[2])), h("td", { class: "right" }, number(p[3]))))));
  }
}

// ---- the heatmap ----

export class Heatmap {
  constructor(panel, view) {
    this.view = view;
    this.columns = [];
    head(panel, "Latency distribution", () => curl(`dashboard/latency?from=-${view.range}`));
    this.canvas = h("canvas", { role: "img", "aria-label": "How many requests took how long, over time", "aria-describedby": "latency-summary" });
    this.summary = h("p", { class: "summary", id: "latency-summary" }, "Loading");
    this.under = h("p", { class: "legend", "aria-hidden": "true" });
    this.table = behind("Latency distribution", () => this.rows());
    this.times = [0, 1, 2, 3].map(() => h("span", {}));
    panel.append(this.under, h("div", { class: "plot" }, this.canvas), h("p", { class: "times", "aria-hidden": "true" }, this.times), this.summary, this.table.el);
    this.canvas.addEventListener("mousemove", (e) => this.hover(e));
    this.canvas.addEventListener("mouseleave", () => this.tell());
    new ResizeObserver(([entry]) => {
      this.box = entry.contentRect;
      this.draw();
    }).observe(this.canvas.parentElement);
  }

  async load() {
    const { from, to } = range(this.view);
    this.step = Math.max(1, Math.ceil(this.view.range / COLUMNS));
    const { data } = await call(`dashboard/latency?from=${from}&to=${to}&step=${this.step}`);
    this.bounds = data.bounds_ms;
    this.columns = data.at_ms.map((at, i) => [at, data.counts[i]]);
    this.draw();
  }

  add(at_ms, counts) {
    const at = Math.floor(at_ms / 1000 / this.step) * this.step * 1000, last = this.columns[this.columns.length - 1];
    if (last && at < last[0]) return;
    if (last && last[0] === at) { if (this.step > 1) counts.forEach((n, i) => { last[1][i] += n; }); }
    else this.columns.push([at, counts.slice()]);
    const from = (Date.now() / 1000 - this.view.range) * 1000;
    while (this.columns.length && this.columns[0][0] < from) this.columns.shift();
  }

  name(row) {
    const b = this.bounds;
    return row === b.length ? `over ${ms(b[row - 1])}` : `${row ? ms(b[row - 1]) : "0"} to ${ms(b[row])}`;
  }

  draw() {
    if (!this.bounds || !this.box) return;
    const box = this.box, scale = window.devicePixelRatio || 1;
    const w = Math.floor(box.width), height = Math.floor(box.height);
    if (this.canvas.width !== w * scale || this.canvas.height !== height * scale) {
      this.canvas.width = w * scale;
      this.canvas.height = height * scale;
      this.has = undefined;
    }
    const ctx = (this.ctx ||= this.canvas.getContext("2d")), left = 52, rows = this.bounds.length + 1;
    const { from, to } = range(this.view), tall = height / rows;
    Object.assign(this, { left, tall, px: (w - left) / this.view.range, from, height_rows: rows });
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    this.axis(ctx, w, height);
    this.times.forEach((el, i) => say(el, clock((from + (to - from) * i / (this.times.length - 1)) * 1000, this.view.range < 1800)));
    ctx.clearRect(left, 0, w - left, height);
    this.paint(rows);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.image, left, 0, w - left, height);
    this.tell();
    this.table.refresh();
  }

  // The names of the rows; they stay until size or theme are others.
  axis(ctx, w, height) {
    const key = [w, height, color("muted"), this.bounds.length].join();
    if (this.has === key) return;
    this.has = key;
    ctx.clearRect(0, 0, w, height);
    ctx.font = "12px system-ui, sans-serif";
    ctx.fillStyle = color("muted");
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    this.bounds.forEach((b, i) => { if (i % 2 === 1 || this.tall > 18) ctx.fillText(ms(b), this.left - 6, height - (i + 1) * this.tall); });
  }

  // A pixel for each time and row, which draw() stretches: thousands of rectangles cost more.
  paint(rows) {
    const columns = Math.ceil(this.view.range / this.step);
    if (!this.image || this.image.width !== columns) this.image = new OffscreenCanvas(columns, rows);
    const ctx = this.image.getContext("2d"), pixels = ctx.createImageData(columns, rows);
    const rgb = [1, 3, 5].map((i) => parseInt(color("heat").slice(i, i + 2), 16));
    for (const [at, counts] of this.columns) {
      const x = Math.floor((at / 1000 - this.from) / this.step);
      if (x < 0 || x >= columns) continue;
      let sum = 0;
      for (const n of counts) sum += n;
      for (let row = 0; row < rows; row++) {
        if (counts[row]) pixels.data.set([...rgb, 40 + 215 * Math.sqrt(counts[row] / sum)], 4 * ((rows - 1 - row) * columns + x));
      }
    }
    ctx.putImageData(pixels, 0, 0);
  }

  hover(e) {
    const at = this.from + (e.offsetX - this.left) / this.px, row = this.height_rows - 1 - Math.floor(e.offsetY / this.tall);
    const column = this.columns.find(([t]) => at >= t / 1000 && at < t / 1000 + this.step);
    if (!column || row < 0 || row >= this.height_rows) return;
    say(this.under, `${clock(column[0])}: ${number(column[1][row], 0)} requests took ${this.name(row)}`);
  }

  sums() {
    const sums = new Array(this.bounds.length + 1).fill(0);
    for (const [, counts] of this.columns) counts.forEach((n, i) => { sums[i] += n; });
    return sums;
  }

  tell() {
    const sums = this.sums(), all = sums.reduce((a, b) => a + b, 0);
    say(this.under, "Stronger: a larger share of the requests of that time");
    if (!all) return say(this.summary, "Nothing was measured in this time.");
    const most = sums.indexOf(Math.max(...sums));
    const slow = sums.reduce((a, n, i) => (i > 0 && this.bounds[i - 1] >= 1000 ? a + n : a), 0);
    say(this.summary, `${percent(sums[most] / all, 0)} of ${number(all, 0)} requests took ${this.name(most)}; ${number(slow, 0)} took longer than 1 s.`);
  }

  rows() {
    const sums = this.sums(), all = sums.reduce((a, b) => a + b, 0);
    return h("table", {}, h("caption", {}, "All of the time shown"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Took"), h("th", { scope: "col", class: "right" }, "Requests"), h("th", { scope: "col", class: "right" }, "Share"))),
      h("tbody", {}, sums.map((n, i) => h("tr", {}, h("td", {}, this.name(i)), h("td", { class: "right" }, number(n, 0)), h("td", { class: "right" }, all ? percent(n / all) : "–")))));
  }
}
