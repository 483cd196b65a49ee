// Alerts and silences, generations, settings.
import { badge, clock, h, head, keyed, number, say, table, toast, words } from "./dom.js";
import { call, curl, post } from "./api.js";

const SEVERITY = { critical: "red", warning: "amber", info: "accent" };

// ---- alerts ----

export class Alerts {
  constructor(panel, refresh) {
    this.refresh = refresh;
    this.note = head(panel, "Alerts and silences", () => curl("alerts")).note;
    this.list = h("div", { class: "list" });
    this.silences = h("div", { class: "list" });
    panel.append(this.list, h("h3", { class: "sub" }, "Silences"), this.silences);
    this.loadSilences();
  }

  set(alerts) {
    say(this.note, `${alerts.counts.firing} firing, ${alerts.counts.pending} pending, ${alerts.counts.resolved} resolved`);
    keyed(this.list, alerts.list.slice(0, 20), (a) => a.id + a.state + a.since, (a) => this.card(a), "No alert fires.");
  }

  card(a) {
    const labels = Object.entries(a.labels).filter(([n]) => n !== "alertname" && n !== "severity").map(([n, v]) => `${n}=${v}`).join(", ");
    return h("article", { class: "card slim", id: a.state === "resolved" ? null : "alert-" + a.id, tabindex: "-1" },
      h("h4", {}, a.name, " ", badge(a.state, a.state === "resolved" ? "green" : SEVERITY[a.severity]), " ", badge(a.severity), a.silenced_by && badge("silenced"), a.inhibited_by && badge("inhibited")),
      h("p", {}, a.summary || ""), h("p", { class: "detail" }, labels, a.since && ` since ${clock(a.since)}`, a.ended_at && ` until ${clock(a.ended_at)}`),
      a.state === "firing" && !a.silenced_by && h("details", { class: "more", data: { focus: "silence" } }, h("summary", {}, "Silence"), this.form(a)));
  }

  form(a) {
    const dirty = (e) => { e.target.dataset.dirty = "1"; };
    const who = h("input", { type: "text", required: true, autocomplete: "name", oninput: dirty }), why = h("input", { type: "text", required: true, oninput: dirty });
    const ttl = h("select", {}, ["30m", "2h", "1d", "7d"].map((t) => h("option", {}, t)));
    return h("form", { class: "inline", onsubmit: async (e) => {
      e.preventDefault();
      const matchers = { alertname: a.name };
      if (a.labels.route) matchers.route = a.labels.route;
      try {
        await post("alerts/silences", { matchers, ttl: ttl.value, author: who.value, comment: why.value });
        for (const input of [who, why]) delete input.dataset.dirty;
        toast(`${a.name} is silenced for ${ttl.value}`);
        this.loadSilences();
        this.refresh();
      } catch (problem) {
        toast(problem.message, true);
      }
    } }, h("label", {}, "for ", ttl), h("label", {}, "by ", who), h("label", {}, "because ", why), h("button", {}, "Silence"));
  }

  async loadSilences() {
    try {
      const { data } = await call("alerts/silences?active=true");
      keyed(this.silences, data.silences, (s) => s.id, (s) => h("article", { class: "card slim" }, h("p", {}, h("code", {}, Object.entries(s.matchers).map(([n, v]) => `${n}=${v}`).join(", ")), ` until ${clock(s.ends_at)}`),
        h("p", { class: "detail" }, `${s.author}: ${s.comment}`), h("div", { class: "actions" }, h("button", { type: "button", "aria-label": "End this silence", onclick: () => this.end(s) }, "End now"))), "Nothing is silenced.");
    } catch (problem) {
      toast(problem.message, true);
    }
  }

  async end(s) {
    try {
      await call(`alerts/silences/${s.id}`, { method: "DELETE" });
      toast("The silence has ended");
      this.loadSilences();
      this.refresh();
    } catch (problem) {
      toast(problem.message, true);
    }
  }
}

// ---- generations ----

const RESULTS = { ok: "green", activated: "green", loaded: "green", restored: "accent", refused: "red", rolled_back: "red" };

export class Generations {
  constructor(panel, refresh) {
    this.refresh = refresh;
    this.note = head(panel, "Generations", () => curl("generations"), h("button", { type: "button", class: "quiet", onclick: () => this.reload() }, "Reload now")).note;
    this.list = h("div", { class: "list" });
    panel.append(this.list);
  }

  set(g) {
    say(this.note, `generation ${g.active} in force in ${g.workers.current} of ${g.workers.total} workers`);
    const restorable = g.restorable.filter((n) => n !== g.active);
    const now = g.history.find((r) => r.generation === g.active && r.result !== "refused"); // the newest that brought it in force
    keyed(this.list, g.history.map((r) => ({ ...r, now: r === now, restorable: restorable.includes(r.generation) && r.result !== "refused" })), (r) => `${r.at_unix_ms} ${r.generation} ${r.result}`, (r) => this.card(r),
      "The scripts are those of the start: nothing was reloaded yet.");
  }

  card(r) {
    const badges = [r.now && badge("active", "green"), r.result !== "active" && badge(words(r.result), RESULTS[r.result])];
    return h("article", { class: "card slim" }, h("h4", {}, r.result === "refused" ? "Refused" : `Generation ${r.generation}`, " ", badges, " ", h("span", { class: "muted" }, `${clock(r.at)}, ${r.cause}`)),
      r.problems.length > 0 && h("ul", { class: "problems" }, r.problems.map((p) => h("li", {}, h("code", {}, p.line ? `${p.file}:${p.line}` : p.file), " ", p.message))),
      r.restorable && h("div", { class: "actions" }, h("button", { type: "button", data: { focus: "restore" }, onclick: () => this.restore(r.generation) }, `Restore generation ${r.generation}`)));
  }

  async reload() {
    try {
      const { data } = await post("reload");
      toast(data.result === "unchanged" ? "Nothing has changed" : `Reloaded: generation ${data.generation}`);
    } catch (problem) {
      const first = problem.body.errors?.[0];
      toast(first ? `Refused: ${first.file}:${first.line}: ${first.message}` : problem.message, true);
    }
    this.refresh();
  }

  async restore(n) {
    try {
      await post(`generations/${n}/restore`);
      toast(`Generation ${n} is in force again`);
    } catch (problem) {
      toast(problem.message, true);
    }
    this.refresh();
  }
}

// ---- settings ----

const SHOWN = 40;

export class Settings {
  constructor(panel) {
    this.note = head(panel, "Settings", () => curl("config")).note;
    this.filter = h("input", { type: "search", placeholder: "name or word", "aria-label": "Find a setting", oninput: () => this.draw() });
    this.changed = h("input", { type: "checkbox", checked: true, onchange: () => this.draw() });
    this.body = h("tbody", {});
    this.under = h("p", { class: "detail" });
    this.journal = h("div", { class: "list" });
    panel.append(h("div", { class: "actions" }, this.filter, h("label", {}, this.changed, " only what is not the default")),
      table("Settings", ["Setting", { title: "Value", right: true }, "Origin", "What it is", "Change"], []), this.under, h("h3", { class: "sub" }, "Changes"), this.journal);
    this.body = panel.querySelector("tbody");
    this.load();
  }

  async load() {
    try {
      const [config, journal] = await Promise.all([call("config"), call("config/journal?limit=10")]);
      this.etag = config.etag;
      this.settings = config.data.settings;
      this.draw();
      keyed(this.journal, journal.data.changes.filter((c) => c.changes.length), (c) => c.seq, (c) => h("article", { class: "card slim" },
        h("p", {}, c.changes.map((o) => [h("code", {}, o.name), ` ${o.from} to ${o.to} `]), h("span", { class: "muted" }, `${clock(c.at)}, ${c.who}`)), c.reason && h("p", { class: "detail" }, c.reason),
        h("div", { class: "actions" }, h("button", { type: "button", class: "quiet", "aria-label": `Undo change ${c.seq}`, onclick: () => this.undo(c.seq) }, "Undo"))), "Nothing was changed by the API.");
    } catch (problem) {
      toast(problem.message, true);
    }
  }

  draw() {
    if (!this.settings || this.body.querySelector("form")) return;
    const text = this.filter.value.trim().toLowerCase();
    const list = this.settings.filter((s) => (text ? (s.name + " " + s.doc).toLowerCase().includes(text) : !this.changed.checked || s.origin !== "default" || s.on_trial));
    say(this.note, `${this.settings.length} settings`);
    say(this.under, list.length > SHOWN ? `The first ${SHOWN} of ${list.length}: type to find others.` : list.length ? "" : text ? "No setting has this in its name or its text." : "All are at their defaults: type to find one.");
    keyed(this.body, list.slice(0, SHOWN), (s) => s.name, (s) => this.row(s));
  }

  row(s) {
    const cell = h("td", {}, h("button", { type: "button", class: "quiet", data: { focus: "edit" }, "aria-label": `Change ${s.name}`, onclick: () => this.edit(s, cell) }, "Change"));
    return h("tr", {}, h("th", { scope: "row" }, h("code", {}, s.name), s.live ? null : h("span", { class: "muted" }, " at start")), h("td", { class: "right" }, String(s.value), " ", s.unit, s.on_trial && badge("on trial", "accent")),
      h("td", {}, s.origin), h("td", { class: "doc" }, s.doc, h("span", { class: "muted" }, s.type === "boolean" ? ` (default ${s.default})` : ` (default ${s.default}, ${s.min} to ${s.max})`)), cell);
  }

  edit(s, cell) {
    const value = s.type === "boolean" ? h("select", { "aria-label": `New value of ${s.name}` }, ["true", "false"].map((v) => h("option", { selected: String(s.value) === v }, v)))
      : h("input", { type: "number", step: s.type === "integer" ? "1" : "any", min: s.min, max: s.max, value: s.value, required: true, "aria-label": `New value of ${s.name}` });
    const why = h("input", { type: "text", placeholder: "why", "aria-label": "Why" });
    const done = () => { cell.replaceChildren(); this.load(); this.body.replaceChildren(); };
    cell.replaceChildren(h("form", { class: "inline", onsubmit: (e) => {
      e.preventDefault();
      this.save(s, s.type === "boolean" ? value.value === "true" : Number(value.value), why.value, done);
    } }, value, why, h("button", { class: "primary" }, "Save"), h("button", { type: "button", onclick: done }, "Cancel")));
    value.focus();
  }

  async save(s, to, reason, done) {
    try {
      const { data } = await call("config", { method: "PATCH", json: { settings: { [s.name]: to }, reason: reason || undefined }, headers: { "If-Match": this.etag } });
      toast(data.changes.length ? `${s.name} is ${to}${data.changes[0].needs_restart ? " after the next start" : ""}` : "It was that already");
      done();
    } catch (problem) {
      if (problem.status === 412) {
        toast("Somebody else changed the configuration meanwhile: it is shown anew, decide again", true);
        done();
      } else toast(problem.message, true);
    }
  }

  async undo(seq) {
    try {
      await post("config/undo", { seq });
      toast(`Change ${number(seq)} is taken back`);
    } catch (problem) {
      toast(problem.message, true);
    }
    this.load();
  }
}
