// Benchmarks: what the last ones found, and one started from here. Asked for again only while one runs.
import { badge, clock, h, head, keyed, ms, number, say, toast } from "./dom.js";
import { call, curl, post } from "./api.js";

const LOOK_MS = 2000;
const STATES = { queued: "accent", running: "accent", done: "green", failed: "red", cancelled: "" };
const live = (b) => b.state === "queued" || b.state === "running";
const span = (i, say) => (i ? ` (${say(i[0])} to ${say(i[1])})` : "");
const pathOf = (target) => target.replace(/^https?:\/\/[^/]*/, "");

/** What a result says, in a line. */
function told(r) {
  if (r.verdict) {
    const e = r.effect, change = e && `${number(e.estimate * 100, 1)} % (${number(e.low * 100, 1)} to ${number(e.high * 100, 1)})`;
    return `${r.setting}: a = ${r.a.value}, b = ${r.b.value}: ${r.verdict}${change ? `, p95 changed by ${change}` : ""}, from ${r.pairs} pairs of blocks`;
  }
  if (r.capacity) {
    const knee = r.capacity.law?.knee_per_second;
    return `bears ${number(r.capacity.requests_per_second)} requests/s with p99 within ${ms(r.capacity.slo_p99_ms)}${knee ? `; knee at ${number(knee)}/s` : ""}`;
  }
  if (!r.response_ms) return "nothing was answered";
  return `${number(r.requests_per_second.median)} requests/s${span(r.requests_per_second.interval, number)}, p50 ${ms(r.response_ms.p50)}, p99 ${ms(r.p99_ms.median)}${span(r.p99_ms.interval, ms)}, ${r.mode} loop, ${number(r.connections)} connections`;
}

export class Benchmarks {
  constructor(panel) {
    this.note = head(panel, "Benchmarks", () => curl("benchmark")).note;
    this.list = h("div", { class: "list" });
    panel.append(h("details", { class: "more" }, h("summary", {}, "Run one"), this.form()), this.list);
    this.load();
  }

  form() {
    const path = h("input", { type: "text", required: true, pattern: "/.*", value: "/", title: "a path of this engine, from its first /" });
    const connections = h("input", { type: "number", min: 1, max: 256, value: 10, required: true }), seconds = h("input", { type: "number", min: 1, max: 60, value: 15, required: true });
    const rate = h("input", { type: "number", min: 1, max: 50000, placeholder: "as answered" });
    return h("form", { class: "inline", onsubmit: async (e) => {
      e.preventDefault();
      const asked = { endpoint: path.value, concurrent_requests: Number(connections.value), duration_s: Number(seconds.value) };
      if (rate.value) asked.rate = Number(rate.value);
      try {
        const { data } = await post("benchmark", asked);
        toast(`${data.id} has begun`);
        this.load();
      } catch (problem) {
        toast(problem.message, true);
      }
    } }, h("label", {}, "path ", path), h("label", {}, "connections ", connections), h("label", {}, "seconds ", seconds), h("label", {}, "requests/s ", rate), h("button", {}, "Run"));
  }

  async load() {
    clearTimeout(this.due);
    try {
      const { data } = await call("benchmark");
      const running = data.benchmarks.some(live);
      say(this.note, running ? "one is running: nothing is learnt meanwhile" : "");
      keyed(this.list, data.benchmarks, (b) => b.id, (b) => this.card(b), "None was run. A benchmark is in no statistic; what it costs the machine is felt all the same.");
      if (running) this.due = setTimeout(() => this.load(), LOOK_MS);
    } catch (problem) {
      toast(problem.message, true);
    }
  }

  card(b) {
    const progress = live(b) && b.progress !== null ? `${number(b.progress * 100, 0)} %` : null;
    return h("article", { class: "card slim" },
      h("h4", {}, b.id, " ", badge(b.state, STATES[b.state]), b.result?.valid === false && badge("not valid", "amber"), " ", h("code", {}, pathOf(b.target)), h("span", { class: "muted" }, ` ${clock(b.asked_at)} `, progress)),
      b.result && h("p", {}, told(b.result)), b.why && h("p", { class: "detail" }, b.why),
      b.result?.reasons?.length > 0 && h("ul", { class: "problems" }, b.result.reasons.map((text) => h("li", {}, text))),
      live(b) && h("div", { class: "actions" }, h("button", { type: "button", class: "quiet", data: { focus: "end" }, "aria-label": `End ${b.id}`, onclick: () => this.end(b) }, "End")));
  }

  async end(b) {
    try {
      await call(`benchmark/${b.id}`, { method: "DELETE" });
    } catch (problem) {
      toast(problem.message, true);
    }
    this.load();
  }
}
