-- Sliding window counter. a: length of the window. Value "<index of the window>:<used in it>:<used in the one before>".
-- The units of the window before count with the share of it that is still within one length of now, rounded up.
local counter = {}

local function weighed(units, window, elapsed)
  return math.ceil(units * (window - math.max(0, elapsed)) / window)
end

-- How far into a window the units of the one before have faded to `room`.
local function faded(units, window, room)
  if units <= room then
    return 0
  end
  local elapsed = math.max(0, math.floor(window - room * window / units) - 1)
  while weighed(units, window, elapsed) > room do
    elapsed = elapsed + 1
  end
  return elapsed
end

local function counter_reset(window, elapsed, current, previous)
  if current > 0 then
    return window - elapsed + faded(current, window, 0)
  end
  return math.max(0, faded(previous, window, 0) - elapsed)
end

function counter.look(key, now, limit, window, _, cost)
  local index, mended = math.floor(now / window), false
  local stored, current, previous = string.match(redis.call('GET', key) or '', '^(%d+):(%d+):(%d+)$')
  stored, current, previous = tonumber(stored or 0), tonumber(current or 0), tonumber(previous or 0)
  if stored > index + 1 then
    mended = true
  elseif stored >= index then
    index = stored
  elseif stored == index - 1 then
    current, previous = 0, current
  else
    current, previous = 0, 0
  end
  local elapsed = now - index * window
  local remaining = math.max(0, limit - current - weighed(previous, window, elapsed))
  local allowed, retry_after = cost <= remaining, 0
  if cost > limit then
    retry_after = -1
  elseif not allowed and current + cost <= limit then
    retry_after = faded(previous, window, limit - cost - current) - elapsed
  elseif not allowed then
    retry_after = window - elapsed + faded(current, window, limit - cost)
  end
  local reset_after = counter_reset(window, elapsed, current, previous)
  return allowed, remaining, retry_after, reset_after, mended, index, current, previous
end

function counter.take(key, now, limit, window, _, cost, _, index, current, previous)
  local elapsed = now - index * window
  current = current + cost
  if current < 0 then
    current, previous = 0, math.max(0, previous + current)
  end
  keep(key, string.format('%.0f:%.0f:%.0f', index, current, previous), 2 * window - elapsed)
  local remaining = math.max(0, limit - current - weighed(previous, window, elapsed))
  return remaining, counter_reset(window, elapsed, current, previous)
end

algorithms.counter = counter
