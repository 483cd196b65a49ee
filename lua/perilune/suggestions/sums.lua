--- What several rules count alike.
--
--     sums.attempts(u)      of an upstream, over its peers during the span: { attempts, failures, retries, hedges, wins, latency_s, answers }
--     sums.peers(u, by)     its peers with enough attempts, the worst first by "ms" or "errors": the worst, the median one, how many;
--                           nil when there are fewer than three
--     sums.cache(s, f)      of a route in the cache: what grew during the span, and its row; nil when the cache knows nothing of it
--     sums.coded(s, f)      of a route's bodies during the span: { bodies, not_smaller, cpu_s }; nil when none was compressed
--     sums.compression(f)   of all bodies during the span: { bodies, bytes_in, bytes_out, cpu_s, small (left as they were), offloaded }

local M = {}

local ATTEMPTS_LEAST, PEERS_LEAST = 50, 3

function M.attempts(u)
  local t = { attempts = 0, failures = 0, retries = 0, hedges = 0, wins = 0, latency_s = 0, answers = 0 }
  for _, p in pairs(u.during and u.during.peers or {}) do
    t.attempts, t.failures, t.retries = t.attempts + (p.attempts or 0), t.failures + (p.failures or 0), t.retries + (p.retries or 0)
    t.hedges, t.wins = t.hedges + (p.hedges or 0), t.wins + (p.hedge_wins or 0)
    t.latency_s, t.answers = t.latency_s + (p.latency_sum_s or 0), t.answers + (p.answers or 0)
  end
  return t
end

function M.peers(u, by)
  local list, now = {}, u.peers or {}
  for i, p in pairs(u.during and u.during.peers or {}) do
    if (p.attempts or 0) >= ATTEMPTS_LEAST and (p.answers or 0) >= 1 and now[i] and now[i].state ~= "ejected" then
      list[#list + 1] = { address = p.address, ms = p.latency_sum_s / p.answers * 1000, errors = p.failures / p.attempts, n = p.attempts }
    end
  end
  if #list < PEERS_LEAST then return end
  table.sort(list, function(a, b) return a[by] > b[by] end)
  return list[1], list[math.ceil((#list + 1) / 2)], #list
end

function M.compression(f)
  local t = { bodies = 0, bytes_in = 0, bytes_out = 0, cpu_s = 0, small = 0, offloaded = 0 }
  local during = f.compression and f.compression.during or {}
  for _, r in pairs(during.routes or {}) do
    for _, c in pairs(r.codings or {}) do
      for _, name in ipairs { "bodies", "bytes_in", "bytes_out", "cpu_s" } do t[name] = t[name] + (c[name] or 0) end
    end
    t.small, t.offloaded = t.small + (r.skipped and r.skipped.small or 0), t.offloaded + (r.offloaded or 0)
  end
  return t
end

-- A route's row in what is kept by route: what grew, and what is; nil when there is none.
local function row_of(s, kept)
  for i, r in ipairs(kept and kept.routes or {}) do
    if (r.method or "GET") .. " " .. r.route == s.name then return kept.during.routes and kept.during.routes[i] or {}, r end
  end
end

function M.coded(s, f)
  local d = row_of(s, f.compression)
  if not d then return end
  local t = { bodies = 0, not_smaller = d.skipped and d.skipped.not_smaller or 0, cpu_s = 0 }
  for _, c in pairs(d.codings or {}) do t.bodies, t.cpu_s = t.bodies + (c.bodies or 0), t.cpu_s + (c.cpu_s or 0) end
  return t
end

function M.cache(s, f) return row_of(s, f.cache) end

return M
