--- Child processes: started with pipes, ended by their pid.
local uv = require "luv"
local loop = require "tests.support.loop"

local process = {}
process.__index = process

-- What still runs when the test process ends is killed, by pid.
local running = {} -- by pid
local sentinel = newproxy(true)
getmetatable(sentinel).__gc = function()
  for pid in pairs(running) do uv.kill(pid, "sigkill") end
end
process.sentinel = sentinel

local function environment(extra)
  local all, list = uv.os_environ(), {}
  for name, value in pairs(extra or {}) do all[name] = value or nil end
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. tostring(value) end
  return list
end

local function collect(self, pipe, into)
  pipe:read_start(function(_, chunk)
    if chunk then
      into[#into + 1] = chunk
    else
      self.open_pipes = self.open_pipes - 1
      if not pipe:is_closing() then pipe:close() end
    end
  end)
end

--- Starts a program. options: command, args (list), env (table, added to
-- ours; false removes), cwd. Returns the process, or nil and a message.
function process.start(options)
  local self = setmetatable({ out_parts = {}, err_parts = {}, open_pipes = 2 }, process)
  local out, err = uv.new_pipe(false), uv.new_pipe(false)
  local handle, pid
  handle, pid = uv.spawn(options.command, {
    args = options.args or {},
    env = environment(options.env),
    cwd = options.cwd,
    stdio = { nil, out, err },
  }, function(code, signal)
    running[self.pid] = nil
    self.code, self.signal = code, signal
    handle:close()
  end)
  if not handle then
    out:close()
    err:close()
    return nil, ("cannot start %s: %s"):format(options.command, tostring(pid))
  end
  self.pid, self.pipes = pid, { out, err }
  running[pid] = self
  collect(self, out, self.out_parts)
  collect(self, err, self.err_parts)
  return self
end

--- What the process has written so far.
function process:stdout()
  return table.concat(self.out_parts)
end

function process:stderr()
  return table.concat(self.err_parts)
end

function process:exited()
  return self.code ~= nil
end

--- Sends a signal ("sigterm"); false when the process is gone.
function process:kill(signal)
  if self:exited() then return false end
  return uv.kill(self.pid, signal or "sigterm") == 0
end

--- Waits for the end; returns exit code and signal. Raises after timeout_ms (10,000).
function process:wait(timeout_ms)
  loop.wait_until(function() return self:exited() end, timeout_ms or 10000, "the end of process " .. self.pid)
  -- A grandchild may hold the pipes; what it writes is not waited for.
  pcall(loop.wait_until, function() return self.open_pipes == 0 end, 2000)
  for _, pipe in ipairs(self.pipes) do
    if not pipe:is_closing() then pipe:close() end
  end
  return self.code, self.signal
end

--- Asks with SIGTERM, waits timeout_ms (10,000), kills if it must. Returns
-- exit code and signal; signal 9 means that it had to be killed.
function process:stop(timeout_ms)
  self:kill("sigterm")
  local ok, code, signal = pcall(self.wait, self, timeout_ms)
  if ok then return code, signal end
  self:kill("sigkill")
  return self:wait()
end

--- Which processes run now: a set of process ids. With process.end_others it lets a
-- test that failed leave nothing behind.
function process.running()
  local pids = {}
  for pid in pairs(running) do pids[pid] = true end
  return pids
end

--- Ends every process that runs and is not in the set.
function process.end_others(pids)
  for pid in pairs(process.running()) do
    if not pids[pid] then running[pid]:stop(2000) end
  end
end

--- Runs a program to its end; returns exit code, stdout, stderr.
function process.run(options)
  local self = assert(process.start(options))
  local ok, code = pcall(self.wait, self, options.timeout_ms)
  if not ok then
    self:stop(0)
    error(code, 2)
  end
  return code, self:stdout(), self:stderr()
end

return process
