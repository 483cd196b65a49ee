--- Waits for what ends on a loop of ours, in programs that have a loop of their own, or none.
--
--     loop = require "luv"   calls in a coroutine yield; luv's loop looks after ours and resumes them
--     loop = "step"          the same, and the program calls object:step() itself
--     without                calls wait until the answer is there
--
-- Outside of coroutines a call waits in all three, which holds up the program's loop: right at the start of a
-- program, wrong in a callback.

local core = ...

local running, yield, resume, traceback, type, pairs = coroutine.running, coroutine.yield, coroutine.resume, debug.traceback, type, pairs

-- luv's loop looks at ours before it polls, when the descriptor of ours is readable, and when a timer of ours is over.
local function nest(uv, raw, step)
  local poll, timer, prepare = uv.new_poll(raw:fd()), uv.new_timer(), uv.new_prepare()
  local nested, stopped = {}, false
  -- Handles are not closed but left to the collector: luv crashes at the end of a program that closed one and did not
  -- turn the loop after that. What is the parent's, whose epoll a child shares, is not touched.
  function nested.stop()
    if stopped then return end
    stopped = true
    if not raw:ours() then return end
    for _, handle in pairs { poll, timer, prepare } do handle:stop() end
    poll, timer, prepare = nil, nil, nil
  end
  local function look()
    if stopped then return end
    prepare:stop()
    if not step() then return nested.stop() end
    if stopped then return end -- by a coroutine that went on
    local ms = raw:timeout()
    if ms < 0 then timer:stop() else timer:start(ms, 0, look) end
  end
  poll:start("r", look)
  for _, handle in pairs { poll, timer, prepare } do uv.unref(handle) end
  -- Something was begun: it is sent, with what else this turn begins, before the loop waits.
  function nested.kick()
    if stopped then return end
    prepare:start(look)
    timer:start(0, 0, look)
  end
  -- While a coroutine waits the loop has something to wait for.
  function nested.hold(held)
    if not stopped then uv[held and "ref" or "unref"](poll) end
  end
  nested.kick()
  return nested
end

-- `raw`: an object of C with fd, timeout, step, wait and ended. `waits(thing)`: the number under which a thing is
-- waited for, nothing when it has ended. Returns look(), await(thing), send() and the methods that programs see.
return function(raw, waits, loop)
  local waiting, count = {}, 0 -- coroutines by number
  local ready, first, last = {}, 1, 0
  local kicked, nested = false, nil
  local self = {}

  local function collect()
    local number = raw:ended()
    while number do
      if waiting[number] then
        last = last + 1
        ready[last] = number
      end
      number = raw:ended()
    end
  end

  local function forget(number)
    local thread = waiting[number]
    if not thread then return nil end
    waiting[number], count = nil, count - 1
    if nested and count == 0 then nested.hold(false) end
    return thread
  end

  local function go_on(number)
    local thread = forget(number)
    if not thread then return end
    local ok, why = resume(thread)
    if not ok then core.log("a coroutine that waited has failed: " .. traceback(thread, tostring(why))) end
  end

  local function resume_ready()
    while first <= last do
      local number = ready[first]
      ready[first], first = nil, first + 1
      go_on(number)
    end
  end

  -- False: the object was closed, or is another process's.
  local function step()
    kicked = false
    local ours = raw:step()
    collect()
    resume_ready()
    return ours
  end

  local function kick()
    kicked = true
    if nested then nested.kick() end
  end

  local function wait_here(thing)
    while waits(thing) do raw:wait() end
    collect()
    if first <= last then kick() end
  end

  local function wait_in(thread, thing)
    local number = waits(thing)
    while number do
      if not waiting[number] then count = count + 1 end
      waiting[number] = thread
      if nested then nested.hold(true) end
      kick()
      yield()
      forget(number) -- when somebody else has resumed it
      number = waits(thing)
    end
  end

  function self.await(thing)
    local thread, main = running()
    if loop and thread and not main then wait_in(thread, thing) else wait_here(thing) end
  end

  -- Before something is begun: without a loop, what has happened since the last call is seen now, a connection that was lost among it.
  function self.look()
    if not loop then raw:step() end
  end

  -- After something was begun that nobody waits for: it is sent.
  function self.send()
    if loop then kick() else raw:step() end
  end

  function self.fd() return raw:fd() end

  function self.timeout()
    if kicked or first <= last then return 0 end
    return raw:timeout()
  end

  function self.step(wait)
    if wait and not kicked and first > last then raw:wait() end
    step()
  end

  function self.close()
    if nested then nested.stop() end
    raw:close()
    for number in pairs(waiting) do
      last = last + 1
      ready[last] = number
    end
    resume_ready()
  end

  if type(loop) == "table" then
    nested = nest(loop, raw, step)
  end
  return self
end
