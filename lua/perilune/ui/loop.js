// Suggestions and trials: evidence, predicted gain, dry run, apply, the interval closing in, undo.
import { badge, behind, clock, h, head, keyed, ms, number, percent, say, toast, words } from "./dom.js";
import { curl, post } from "./api.js";

const STATES = { OPEN: "amber", BLOCKED: "", SNOOZED: "", QUEUED: "accent", RUNNING: "accent", SUCCEEDED: "green", FAILED: "red", DISMISSED: "", EXPIRED: "", DONE: "green" };
const PHASES = { VERIFIED: "green", ROLLED_BACK: "red", ABORTED: "amber", SUPERSEDED: "amber", NO_EFFECT: "", INCONCLUSIVE: "" };

const amount = (metric, x) => (/_ms$|wait|^db$|^lua$/.test(metric) ? ms(x) : /share|rate|ratio/.test(metric) ? percent(x) : number(x));
const change = (x) => (x === null || x === undefined ? "–" : (x > 0 ? "+" : "") + number(x * 100, 0) + " %");

/** Does something and says what came of it. */
async function act(what, fn, after) {
  try {
    const { data } = await fn();
    toast(what(data));
    after();
    return data;
  } catch (problem) {
    toast(problem.message, true);
  }
}

// ---- suggestions ----

export class Suggestions {
  constructor(panel, refresh) {
    this.refresh = refresh;
    this.note = head(panel, "Suggestions", () => curl("suggestions")).note;
    this.open = h("div", { class: "list" });
    this.ended = h("div", { class: "list" });
    this.past = h("details", { class: "behind" }, h("summary", {}, "Ended"), this.ended);
    panel.append(this.open, this.past);
  }

  set(all, frozen) {
    say(this.note, frozen ? `trials are frozen: ${frozen.reason}` : "");
    keyed(this.open, all.open, (s) => s.id, (s) => this.card(s), "Nothing to suggest now. A suggestion appears when measurements give reason for one.");
    keyed(this.ended, all.ended, (s) => s.id, (s) => this.card(s));
    this.past.hidden = !all.ended.length;
    say(this.past.querySelector("summary"), `Ended (${all.ended.length})`);
  }

  card(s) {
    return h("article", { class: "card", id: s.id, tabindex: "-1", "aria-labelledby": s.id + "-h" },
      h("h3", { id: s.id + "-h" }, s.title, " ", badge(words(s.state), STATES[s.state]), " ", s.priority && badge(s.priority)),
      h("p", {}, s.explanation), this.gain(s), s.advice && h("p", { class: "advice" }, s.advice), this.change(s), this.outcome(s), this.evidence(s));
  }

  gain(s) {
    const i = s.impact;
    if (!i || i.predicted === undefined) return null;
    return h("p", { class: "gain" }, `Expected: ${words(i.metric)} `, h("b", {}, amount(i.metric, i.now)), " to ", h("b", {}, amount(i.metric, i.predicted)), i.lo !== undefined && i.hi !== undefined &&
      ` (${amount(i.metric, i.lo)} to ${amount(i.metric, i.hi)})`, i.change !== undefined && `, ${change(i.change)}`);
  }

  change(s) {
    const id = s.id;
    if (!s.operations) {
      return h("div", { class: "actions" }, s.state === "OPEN" && this.button(s, "done", "It is done", () => post(`suggestions/${id}/done`, {}), () => "Closed: done"), this.dismissal(s));
    }
    const inputs = new Map();
    const operations = h("ul", { class: "operations" }, s.operations.map((o) => {
      const label = `${o.name}, ${o.unit || "value"}`;
      const input = s.state === "OPEN" && typeof o.to === "number" && h("input", { type: "number", step: "any", value: o.to, "aria-label": `New ${label}`, data: { focus: o.name },
        oninput: (e) => { e.target.dataset.dirty = "1"; } });
      if (input) inputs.set(o.name, input);
      return h("li", {}, h("code", {}, o.name), ` ${o.from} to `, input || h("b", {}, String(o.to)), " ", o.unit || "");
    }));
    const body = () => {
      const json = {};
      for (const [name, input] of inputs) json[name] = Number(input.value);
      for (const [, input] of inputs) delete input.dataset.dirty;
      return json;
    };
    const result = h("p", { class: "result", role: "status" });
    const actions = [];
    if (s.state === "OPEN") {
      actions.push(h("button", { type: "button", data: { focus: "dry" }, onclick: () => this.dryRun(s, body(), result) }, "Dry run"));
      actions.push(this.button(s, "apply", "Apply as a trial", () => post(`suggestions/${id}/apply`, body(), { "If-Match": "*" }), (d) => (d.trial ? `${d.trial} begins` : "Queued: it begins as soon as it may"), "primary"));
    }
    if (s.state === "RUNNING" || s.state === "QUEUED") actions.push(this.button(s, "rollback", "Stop and take back", () => post(`suggestions/${id}/rollback`), () => "Taken back"));
    if (s.state === "SUCCEEDED" && !s.taken_back) actions.push(this.button(s, "undo", "Undo", () => post(`suggestions/${id}/rollback`), () => "Undone: the values from before are in force"));
    if (s.trial) actions.push(h("a", { href: "#" + s.trial }, s.trial));
    return [operations, s.state === "BLOCKED" && h("p", { class: "muted" }, `Waits for ${(s.blocked_by || []).join(", ") || "its cause"}`), s.waits_for && h("p", { class: "muted" }, s.waits_for),
      h("div", { class: "actions" }, actions, this.dismissal(s)), result];
  }

  button(s, focus, text, fn, what, extra) {
    return h("button", { type: "button", class: extra || "", data: { focus }, "aria-label": `${text}: ${s.title}`, onclick: () => act(what, fn, this.refresh) }, text);
  }

  dismissal(s) {
    if (s.state !== "OPEN" && s.state !== "BLOCKED") return null;
    const why = h("input", { type: "text", required: true, "aria-label": "Why it is dismissed", placeholder: "why", data: { focus: "why" }, oninput: (e) => { e.target.dataset.dirty = "1"; } });
    const form = h("form", { class: "inline", onsubmit: (e) => { e.preventDefault(); act(() => "Dismissed", () => post(`suggestions/${s.id}/dismiss`, { reason: why.value }), () => { delete why.dataset.dirty; this.refresh(); }); } },
      why, h("button", {}, "Dismiss"));
    return [h("button", { type: "button", class: "quiet", data: { focus: "snooze" }, onclick: () => act(() => "Snoozed for a day", () => post(`suggestions/${s.id}/snooze`, {}), this.refresh) }, "Snooze a day"),
      h("details", { class: "more", data: { focus: "dismiss" } }, h("summary", {}, "Dismiss"), form)];
  }

  async dryRun(s, json, result) {
    try {
      const { data } = await post(`suggestions/${s.id}/dry-run`, json);
      const list = data.changes.map((c) => `${c.name} ${c.from} to ${c.to}`).join(", ");
      say(result, data.would_begin ? `It would begin now: ${list}. Nothing was changed.` : `It would set ${list}, but: ${data.in_the_way}.`);
    } catch (problem) {
      say(result, problem.message);
    }
  }

  outcome(s) {
    if (s.measured) {
      const m = s.measured;
      return h("p", { class: "gain" }, `Measured: ${words(m.metric)} `, h("b", {}, change(m.change)), m.lo !== undefined && ` (${change(m.lo)} to ${change(m.hi)})`, `, from ${amount(m.metric, m.before)}`, s.taken_back && "; undone since");
    }
    return s.verdict ? h("p", { class: "muted" }, `${words(s.verdict.phase)}: ${s.verdict.why}`) : null;
  }

  evidence(s) {
    const signals = Object.entries(s.evidence?.signals || {}).filter(([, v]) => typeof v === "number").sort();
    const inputs = Object.entries(s.impact?.inputs || {});
    return h("details", { class: "more", data: { focus: "evidence" } }, h("summary", {}, "Evidence"),
      h("p", { class: "detail" }, `Rule ${s.rule}, effort ${words(s.difficulty || "")}, risk ${s.risk} of 5, confidence ${percent(s.confidence, 0)}, ${number(s.evidence?.samples)} samples${s.routes ? ", " + s.routes.join(", ") : ""}.`),
      s.impact?.formula && h("p", { class: "detail" }, "Predicted by ", h("code", {}, s.impact.formula), inputs.length ? ` from ${inputs.map(([k, v]) => `${words(k)} ${number(v)}`).join(", ")}.` : "."),
      h("dl", { class: "signals" }, signals.map(([name, v]) => h("div", {}, h("dt", {}, words(name)), h("dd", {}, number(v))))));
  }
}

// ---- trials ----

const STEPS = ["CANARY", "EXPAND", "CONFIRM", "VERIFIED"];

/** The interval of the change after each pair of blocks, with no change in the middle: it closes in on what the change does. */
function picture(t) {
  const list = t.intervals.filter((i) => i.lo !== undefined && i.hi !== undefined).slice(-12);
  if (!list.length) return null;
  const most = Math.max(0.1, ...list.flatMap((i) => [Math.abs(Math.max(-1, i.lo)), Math.abs(Math.min(2, i.hi))])) * 1.08;
  const W = 320, row = 11, H = list.length * row + 8, x = (v) => W / 2 + (Math.max(-most, Math.min(most, v)) / most) * (W / 2);
  const last = list[list.length - 1];
  return h("svg", { class: "interval", viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": `Interval of the change after each of ${list.length} looks; now ${change(last.lo)} to ${change(last.hi)}` },
    h("line", { class: "zero", x1: W / 2, x2: W / 2, y1: 0, y2: H }),
    list.map((i, n) => {
      const y = 4 + n * row + row / 2, good = t.direction === "up" ? i.lo > 0 : i.hi < 0;
      return h("g", { class: n === list.length - 1 ? "now" : "" }, h("line", { class: "span" + (good ? " good" : ""), x1: x(i.lo), x2: x(i.hi), y1: y, y2: y }), i.change !== undefined && h("circle", { cx: x(i.change), cy: y, r: 3 }));
    }));
}

export class Trials {
  constructor(panel, refresh) {
    this.refresh = refresh;
    this.freeze = h("button", { type: "button", class: "quiet", onclick: () => this.toggle() }, "Freeze trials");
    this.note = head(panel, "Trials", () => curl("trials"), this.freeze).note;
    this.list = h("div", { class: "list" });
    panel.append(this.list);
  }

  toggle() {
    const frozen = this.frozen;
    act(() => (frozen ? "Trials may run again" : "Trials are frozen"), () => post(frozen ? "tuning/resume" : "tuning/freeze", frozen ? {} : { reason: "from the dashboard" }), this.refresh);
  }

  set(list, frozen) {
    this.frozen = frozen;
    this.all = list;
    say(this.freeze, frozen ? "Resume trials" : "Freeze trials");
    say(this.note, frozen ? "frozen" : "");
    keyed(this.list, list, (t) => t.id, (t) => this.card(t), "No trial yet. Apply a suggestion, and its experiment is shown here.");
  }

  /** One that has moved on; whether it was known. */
  update(t) {
    const i = (this.all || []).findIndex((o) => o.id === t.id);
    if (i < 0) return false;
    const all = this.all.slice();
    all[i] = t;
    this.set(all, this.frozen);
    return true;
  }

  card(t) {
    const ended = t.ended_at !== null, last = t.intervals[t.intervals.length - 1];
    const result = t.confirm || t.canary || last;
    const bar = h("span", { class: "fill" });
    bar.style.width = t.progress * 100 + "%";
    const at = t.phase === "KEEPING" ? 2 : STEPS.indexOf(t.phase);
    const tableOf = behind("Intervals", () => h("table", {}, h("thead", {}, h("tr", {}, ["Look", "Change", "From", "To"].map((c) => h("th", { scope: "col", class: "right" }, c)))),
      h("tbody", {}, t.intervals.map((i, n) => h("tr", {}, h("td", { class: "right" }, String(n + 1)), h("td", { class: "right" }, change(i.change)), h("td", { class: "right" }, change(i.lo)), h("td", { class: "right" }, change(i.hi)))))));
    tableOf.el.dataset.focus = "intervals";
    return h("article", { class: "card", id: t.id, tabindex: "-1", "aria-labelledby": t.id + "-h" },
      h("h3", { id: t.id + "-h" }, t.title || t.id, " ", badge(words(t.phase), ended ? PHASES[t.phase] : "accent"), !ended && badge(t.on ? (t.workers ? `change on worker ${t.workers.replaceAll(" ", ", ")}` : "change on") : "change off", "")),
      h("p", { class: "detail" }, t.changes.map((c) => `${c.name} ${c.from} to ${c.to}`).join(", "), `; measured by ${words(t.metric)}${t.design === "canary" ? ", workers side by side" : ""}; began ${clock(t.started_at)}${ended ? ", ended " + clock(t.ended_at) : ""}`,
        t.suggestion && [", of ", h("a", { href: "#" + t.suggestion }, t.suggestion)]),
      !ended && h("ol", { class: "steps", "aria-label": "Phases" }, STEPS.map((s, i) => h("li", { class: i < at ? "past" : i === at ? "now" : "", "aria-current": i === at ? "step" : null }, words(s)))),
      !ended && h("div", { class: "progress", role: "progressbar", "aria-label": `Progress of ${t.id}`, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(t.progress * 100)) }, bar),
      result && result.change !== undefined && h("p", { class: "gain" }, ended && t.confirm ? "Measured: " : "So far: ", h("b", {}, change(result.change)),
        (result.change_lo ?? result.lo) !== undefined && ` (${change(result.change_lo ?? result.lo)} to ${change(result.change_hi ?? result.hi)})`),
      picture(t), t.intervals.length > 0 && tableOf.el, t.why && h("p", {}, t.why),
      !ended && h("div", { class: "actions" }, h("button", { type: "button", data: { focus: "stop" }, "aria-label": `Stop and take back: ${t.title || t.id}`,
        onclick: () => act(() => "Stopped: the values from before are in force", () => post(`trials/${t.id}/stop`), this.refresh) }, "Stop and take back")));
  }
}
