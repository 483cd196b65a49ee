// The page: what is asked, when, and where it goes. Live by events, back-filled by requests.
import { $, clock, h, say, toast } from "./dom.js";
import { call, listen } from "./api.js";
import { Findings, Issues, Resources, Routes, Tiles } from "./panels.js";
import { Heatmap, Traffic, forgetColors } from "./traffic.js";
import { Suggestions, Trials } from "./loop.js";
import { Alerts, Generations, Settings } from "./operate.js";
import { Benchmarks } from "./benchmarks.js";

const RANGES = { 300: "5 min", 900: "15 min", 3600: "1 h", 21600: "6 h", 86400: "24 h" };
const RANGE = 300; // so that a new service is not a strip at the edge
const REFRESH_MS = 5000, RELOAD_MS = 60000, SOON_MS = 300;

// What is in the address: ?range=3600&freeze=1795484951
const view = { range: RANGE, frozenAt: 0 };
{
  const query = new URLSearchParams(location.search);
  if (RANGES[query.get("range")]) view.range = Number(query.get("range"));
  if (Number(query.get("freeze")) > 0) view.frozenAt = Number(query.get("freeze"));
}
function remember() {
  const query = new URLSearchParams();
  if (view.range !== RANGE) query.set("range", view.range);
  if (view.frozenAt) query.set("freeze", view.frozenAt);
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? "?" + text : "") + location.hash);
}

const parts = {};
let requests = 0;

// ---- asking ----

async function document_() {
  const { data, meta } = await call("dashboard?window=60");
  parts.findings.set(data.findings);
  parts.tiles.set(data.tiles);
  parts.issues.set(data.issues, data.learning);
  parts.routes.set(data.routes, data.routes_total);
  parts.resources.set(data.resources);
  parts.suggestions.set(data.suggestions, data.frozen);
  parts.trials.set(data.trials, data.frozen);
  parts.alerts.set(data.alerts);
  parts.generations.set(data.generation);
  parts.traffic.setMarkers(data.markers);
  requests = data.findings.some((f) => f.of === "traffic") ? 0 : 1;
  parts.traffic.setEmpty(!requests, data.data_address);
  say($("where"), `${meta.node ? meta.node + " " : ""}${data.data_address}`);
}

const failed = (problem) => toast(problem.message, true);
const charts = () => Promise.all([parts.traffic.load(), parts.heatmap.load()]).catch(failed);

let due, asked = 0;
/** Asks for the document soon, once for all events of a moment. */
function refresh() {
  if (due) return;
  due = setTimeout(() => {
    due = undefined;
    asked = Date.now();
    document_().catch(failed);
  }, SOON_MS);
}

// ---- events ----

function tick(t) {
  if (view.frozenAt || document.hidden) return;
  performance.mark("tick-begin");
  parts.findings.set(t.findings);
  parts.tiles.set(t.tiles);
  parts.routes.set(t.routes);
  if (t.second) {
    parts.traffic.add(t.second);
    parts.traffic.draw();
    if (t.latencies) parts.heatmap.add(t.second.at_ms, t.latencies);
    parts.heatmap.draw();
    if (!requests && t.second.rps > 0) refresh();
  }
  performance.measure("tick", "tick-begin"); // what a second costs: performance.getEntriesByName("tick")
  if (Date.now() - asked > REFRESH_MS) refresh();
}

function on(kind, data) {
  if (kind === "tick") return tick(data);
  if (view.frozenAt) return;
  if (kind === "trial" && parts.trials.update(data)) return;
  if (kind === "reload") parts.settings.load();
  if (kind === "dropped") charts();
  refresh();
}

// ---- controls ----

function freeze(at) {
  view.frozenAt = at;
  $("freeze").setAttribute("aria-pressed", String(at > 0));
  say($("freeze"), at ? "Go live" : "Freeze");
  say($("findings-note"), at ? `frozen at ${clock(at * 1000)}` : "");
  document.body.classList.toggle("frozen", at > 0);
  remember();
}

const THEMES = ["system", "light", "dark"];
function theme(name) {
  if (name === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("theme");
  } else {
    document.documentElement.dataset.theme = name;
    localStorage.setItem("theme", name);
  }
  say($("theme"), `Theme: ${name}`);
  forgetColors();
  parts.traffic.recolor();
  parts.heatmap.draw();
}

function controls() {
  const range = $("range");
  range.append(...Object.entries(RANGES).map(([s, text]) => h("option", { value: s, selected: Number(s) === view.range }, text)));
  range.addEventListener("change", () => {
    view.range = Number(range.value);
    remember();
    charts();
  });
  $("freeze").addEventListener("click", () => {
    freeze(view.frozenAt ? 0 : Math.floor(Date.now() / 1000));
    charts();
    if (!view.frozenAt) refresh();
  });
  $("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(localStorage.getItem("theme") || "system") + 1) % 3]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(localStorage.getItem("theme") || "system"));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || view.frozenAt) return;
    charts();
    refresh();
  });
  // A link to a thing that is in a closed part, or not made yet, opens it.
  addEventListener("hashchange", show);
}

function show() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) {
    const part = { issue: "findings", sug: "suggestions", trial: "trials", alert: "alerts" }[location.hash.slice(1).split("-")[0]];
    if (part) $(part).scrollIntoView();
    return;
  }
  target.closest("details")?.setAttribute("open", "");
  target.scrollIntoView({ block: "start" });
  target.focus({ preventScroll: true });
}

// ---- beginning ----

Object.assign(parts, {
  findings: new Findings($("findings")), tiles: new Tiles($("tiles")), traffic: new Traffic($("traffic"), view), heatmap: new Heatmap($("latency"), view),
  issues: new Issues($("issues")), routes: new Routes($("routes")), resources: new Resources($("resources")), suggestions: new Suggestions($("suggestions"), refresh), trials: new Trials($("trials"), refresh),
});
controls();
theme(localStorage.getItem("theme") || "system");
freeze(view.frozenAt);
try {
  parts.alerts = new Alerts($("alerts"), refresh);
  parts.generations = new Generations($("generations"), refresh);
  parts.benchmarks = new Benchmarks($("benchmarks"));
  parts.settings = new Settings($("settings"));
  await document_();
  asked = Date.now();
} catch (problem) {
  failed(problem);
}
await charts();
if (location.hash) show();
listen(on, (state) => {
  const link = $("link");
  link.className = "link " + state;
  say(link, state);
});
setInterval(() => {
  if (view.frozenAt || document.hidden) return;
  charts();
  parts.benchmarks?.load(); // one may have been started elsewhere
}, RELOAD_MS);
setInterval(() => performance.getEntriesByName("tick").length > 600 && performance.clearMeasures("tick"), RELOAD_MS);
