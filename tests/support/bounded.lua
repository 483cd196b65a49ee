--- core.bounded for modules that are loaded without an engine: nothing is ever taken back.
return function(_, fn, ...)
  local ok, answer = pcall(fn, ...)
  return ok, answer, 0, false
end
