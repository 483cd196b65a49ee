-- SPDX-License-Identifier: MIT
package.path = "lua/?.lua;" .. package.path

local prometheus = require "perilune.prometheus"

-- A strict reader of both formats: every line must be what the grammar allows,
-- families must be whole, typed before their samples and not repeated.
local function parse_labels(text)
  local labels, count, position = {}, 0, 1
  while position <= #text do
    local name, start = text:match('^([%a_][%w_]*)="()', position)
    assert(name, "no label at: " .. text:sub(position))
    local value, i = {}, start
    while true do
      local c = text:sub(i, i)
      assert(c ~= "" and c ~= "\n", "label value not closed")
      if c == '"' then break end
      if c == "\\" then
        i = i + 1
        c = assert(({ ["\\"] = "\\", ['"'] = '"', n = "\n" })[text:sub(i, i)], "unknown escape")
      end
      value[#value + 1] = c
      i = i + 1
    end
    assert(labels[name] == nil, "label twice: " .. name)
    labels[name] = table.concat(value)
    count = count + 1
    position = i + 1
    if position <= #text then
      assert(text:sub(position, position) == ",", "no comma between labels")
      position = position + 1
    end
  end
  return labels, count
end

local plain, of_histogram = { [""] = true }, { _bucket = true, _sum = true, _count = true }
local suffixes = {
  classic = { counter = plain, gauge = plain, histogram = of_histogram },
  openmetrics = { counter = { _total = true }, gauge = plain, histogram = of_histogram },
}

local function parse_value(text)
  if text == "+Inf" then return math.huge end
  local digits = text:match("^%-?%d+%.?%d*$") or text:match("^%-?%d+%.?%d*e[+-]?%d+$")
  assert(digits or text == "NaN", "bad value " .. text)
  return tonumber(text)
end

local function parse(text, format)
  assert(text:sub(-1) == "\n", "no newline at the end")
  local families, current, ended, seen = {}, nil, false, {}
  for line in text:gmatch("([^\n]*)\n") do
    assert(not ended, "something behind # EOF")
    assert(line ~= "", "empty line")
    local keyword, name, rest = line:match("^# (%u+) ([%a_:][%w_:]*) (.+)$")
    if line == "# EOF" then
      ended = true
    elseif keyword then
      if not current or current.name ~= name then
        assert(not families[name], "family twice: " .. name)
        current = { name = name, samples = {} }
        families[name] = current
      end
      assert(#current.samples == 0, "metadata behind samples of " .. name)
      assert(not current[keyword], keyword .. " twice")
      current[keyword] = rest
      if keyword == "UNIT" then assert(name:sub(-#rest - 1) == "_" .. rest, "name without its unit: " .. name) end
    else
      local sample, labels, value = line:match("^([%a_:][%w_:]*){(.*)} (%S+)$")
      if not sample then
        sample, value = line:match("^([%a_:][%w_:]*) (%S+)$")
        labels = ""
      end
      assert(sample, "not a sample: " .. line)
      assert(current and sample:sub(1, #current.name) == current.name, "sample outside its family: " .. line)
      local suffix = sample:sub(#current.name + 1)
      assert(suffixes[format][current.TYPE][suffix], "suffix " .. suffix .. " of " .. current.name)
      assert(not seen[sample .. labels], "sample twice: " .. line)
      seen[sample .. labels] = true
      table.insert(current.samples, { suffix = suffix, labels = parse_labels(labels), value = parse_value(value) })
    end
  end
  assert(ended == (format == "openmetrics"), "# EOF")
  return families
end

local function snapshot()
  return {
    stats = {
      requests_total = 12, aborted_total = 1, in_flight = 2, bytes_in = 1234, bytes_out = 2 ^ 40,
      processes = {
        { role = "supervisor", pid = 10, restarts = 0, rss_bytes = 4096 },
        { role = "worker", pid = 11, restarts = 2, rss_bytes = 8192 },
        { role = "worker", pid = 0, restarts = 1 },
      },
      system = { cpu_share = 0.25, load = { 1.5, 1, 0.5 }, open_fds = 31 },
    },
    histograms = {
      {
        method = "GET", route = '/a"b\\c\nd/:id', count = 9, sum_s = 1.0625,
        status = { ["1xx"] = 0, ["2xx"] = 8, ["3xx"] = 0, ["4xx"] = 0, ["5xx"] = 1, none = 0 },
        buckets = {
          { le_seconds = .0005, cumulative = 3 }, { le_seconds = 1, cumulative = 8 },
          { le_seconds = 10, cumulative = 8 },
        },
      },
      {
        method = "*", route = "(other)", count = 0, sum_s = 0,
        status = { ["1xx"] = 0, ["2xx"] = 0, ["3xx"] = 0, ["4xx"] = 0, ["5xx"] = 0, none = 0 },
        buckets = {
          { le_seconds = .0005, cumulative = 0 }, { le_seconds = 1, cumulative = 0 },
          { le_seconds = 10, cumulative = 0 },
        },
      },
    },
    alerts = {
      alerts = { { severity = "critical", state = "firing", count = 2 }, { severity = "critical", state = "pending", count = 0 } },
      endpoints = { { receiver = "ops", kind = "webhook", sent = 3, failed = 1, lost = 0, waiting = 4 } },
    },
    generation = { active = 3, newest = 4, reloads_ok = 2, reloads_refused = 1, rollbacks = 0 },
  }
end

local function find(family, suffix, wanted)
  for _, sample in ipairs(family.samples) do
    local same = sample.suffix == suffix
    for name, value in pairs(wanted) do same = same and sample.labels[name] == value end
    if same then return sample.value end
  end
end

for _, format in ipairs { "classic", "openmetrics" } do
  describe("prometheus in the " .. format .. " format", function()
    local om = format == "openmetrics"
    local text, content_type = prometheus.render(snapshot(), om)
    local function counter(families, name)
      return om and families[name] or families[name .. "_total"], om and "_total" or ""
    end

    it("follows the grammar and names its type", function()
      parse(text, format)
      assert.equal(prometheus.content_type[format], content_type)
    end)

    it("tells of alerts and of who was told", function()
      local families = parse(text, format)
      assert.equal(2, find(families.perilune_alerts, "", { severity = "critical", state = "firing" }))
      assert.equal(4, find(families.perilune_alert_notifications_waiting, "", { receiver = "ops", kind = "webhook" }))
      for name, value in pairs { sent = 3, failed = 1, lost = 0 } do
        local family, suffix = counter(families, "perilune_alert_notifications_" .. name)
        assert.equal(value, find(family, suffix, { receiver = "ops", kind = "webhook" }), name)
      end
    end)

    it("gives every family a help text and a type", function()
      for name, family in pairs(parse(text, format)) do
        assert.is_string(family.HELP, name)
        assert.is_string(family.TYPE, name)
      end
    end)

    it("escapes label values so that they read back", function()
      local durations = parse(text, format).http_server_request_duration_seconds
      assert.equal(9, find(durations, "_count", { http_route = '/a"b\\c\nd/:id', http_request_method = "GET" }))
    end)

    it("has ascending cumulative buckets that end at the count", function()
      local durations = parse(text, format).http_server_request_duration_seconds
      local last, bound, ends = 0, -1, 0
      for _, sample in ipairs(durations.samples) do
        if sample.suffix == "_bucket" then
          local le = sample.labels.le == "+Inf" and math.huge or tonumber(sample.labels.le)
          assert.is_true(le > bound and sample.value >= last)
          bound, last = le, sample.value
          if le == math.huge then
            assert.equal(find(durations, "_count", { http_route = sample.labels.http_route }), sample.value)
            bound, last, ends = -1, 0, ends + 1
          end
        end
      end
      assert.equal(2, ends)
    end)

    it("writes bounds as the format wants them", function()
      local durations = parse(text, format).http_server_request_duration_seconds
      assert.equal(8, find(durations, "_bucket", { le = om and "1.0" or "1", http_request_method = "GET" }))
      assert.equal(3, find(durations, "_bucket", { le = "0.0005", http_request_method = "GET" }))
    end)

    it("counts requests, bytes, reloads and restarts", function()
      local families = parse(text, format)
      local requests, suffix = counter(families, "perilune_requests")
      assert.equal(12, find(requests, suffix, {}))
      assert.equal(2 ^ 40, find(counter(families, "perilune_sent_bytes"), suffix, {}))
      local reloads = counter(families, "perilune_reloads")
      assert.equal(2, find(reloads, suffix, { result = "ok" }))
      assert.equal(1, find(reloads, suffix, { result = "refused" }))
      assert.equal(0, find(reloads, suffix, { result = "rolled_back" }))
      assert.equal(3, find(counter(families, "perilune_worker_restarts"), suffix, {}))
      local responses = counter(families, "perilune_responses")
      assert.equal(1, find(responses, suffix, { http_request_method = "GET", status_class = "5xx" }))
    end)

    it("names routes without a method as OpenTelemetry does", function()
      local durations = parse(text, format).http_server_request_duration_seconds
      assert.equal(0, find(durations, "_count", { http_request_method = "_OTHER", http_route = "(other)" }))
    end)

    it("leaves out what is not available", function()
      local families = parse(text, format)
      assert.equal(0.25, find(families.perilune_machine_cpu_ratio, "", {}))
      assert.is_nil(families.perilune_machine_disk_ratio)
      assert.equal(8192, find(families.perilune_process_resident_memory_bytes, "", { role = "worker", pid = "11" }))
      assert.is_nil(find(families.perilune_process_resident_memory_bytes, "", { pid = "0" }))
    end)

    it("renders a server that has seen nothing yet", function()
      local empty = snapshot()
      empty.histograms, empty.stats.processes, empty.stats.system = {}, {}, {}
      parse(prometheus.render(empty, om), format)
    end)
  end)
end
