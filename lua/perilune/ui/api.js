// The control API: requests with the token, problems as errors, and the stream of events.
import { $ } from "./dom.js";

const ROOT = "/api/v1/performance-optimization/";
const TOKEN = "perilune.token";
const SILENT_MS = 20000; // the engine sends something every 15 s

let asking;

function askToken(wrong) {
  if (asking) return asking;
  const dialog = $("token"), value = $("token-value");
  $("token-wrong").textContent = wrong ? "This token is not the right one." : "";
  value.value = "";
  dialog.showModal();
  asking = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      asking = undefined;
      sessionStorage.setItem(TOKEN, value.value);
      resolve();
    }, { once: true });
  });
  return asking;
}

async function send(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers };
  if (token) headers.Authorization = "Bearer " + token;
  const response = await fetch(ROOT + path, { ...options, headers, cache: "no-store" });
  if (response.status !== 401) return response;
  if (sessionStorage.getItem(TOKEN) === token) await askToken(token !== null); // else another was given meanwhile
  return send(path, options);
}

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || `the control API answered ${status}`);
    this.status = status;
    this.body = body || {};
  }
}

/** { data, meta, etag }; raises a Problem. */
export async function call(path, options = {}) {
  const { json, ...rest } = options;
  if (json !== undefined) {
    rest.body = JSON.stringify(json);
    rest.headers = { ...rest.headers, "Content-Type": "application/json" };
  }
  const response = await send(path, rest);
  const text = await response.text();
  let body;
  try { body = JSON.parse(text); } catch { body = undefined; }
  if (!response.ok) throw new Problem(response.status, body);
  return { data: body?.data, meta: body?.meta, etag: response.headers.get("ETag") };
}

export const post = (path, json, headers) => call(path, { method: "POST", json: json || {}, headers });

/** A line for a terminal; the token stands in a variable, not in the line. */
export function curl(path, method, json) {
  const parts = ["curl -s"];
  if (method) parts.push("-X " + method);
  if (sessionStorage.getItem(TOKEN)) parts.push('-H "Authorization: Bearer $PERILUNE_TOKEN"');
  parts.push(`'${location.origin}${ROOT}${path}'`);
  if (json) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(json)}'`);
  return parts.join(" ");
}

/**
 * Events by fetch, so that the token can be sent. on(kind, data) hears of them, state("live" | "reconnecting") of the connection.
 * Comes again by itself after `retry`, with the id seen last.
 */
export function listen(on, state) {
  let id, retry = 3000;
  function event(text) {
    let kind = "message", data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("retry: ")) retry = Number(line.slice(7));
      else if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (data) on(kind, JSON.parse(data));
  }
  async function once() {
    const stop = new AbortController();
    let watch = setTimeout(() => stop.abort(), SILENT_MS);
    try {
      const response = await send("stream", { headers: id ? { "Last-Event-ID": id } : {}, signal: stop.signal });
      if (!response.ok) throw new Problem(response.status);
      state("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(watch);
        watch = setTimeout(() => stop.abort(), SILENT_MS);
        rest += value;
        for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) event(rest.slice(0, end));
      }
    } finally {
      clearTimeout(watch);
    }
  }
  (async () => {
    for (let failed = 0; ;) {
      try {
        await once();
        failed = 0;
      } catch {
        failed++;
      }
      if (failed) state("reconnecting");
      // A reload ends the stream in good order: its successor is there at once.
      await new Promise((resolve) => setTimeout(resolve, failed ? retry : 100));
    }
  })();
}
