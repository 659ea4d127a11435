-- GCRA, and the leaky bucket. a: parts in a unit, b: parts flowing out per us. Value
-- "<time at which all has flowed out>:<fraction of it in parts>:<rate>:<scale>:<capacity>". That time is the
-- theoretical arrival time. It is kept with the limit it was made under: under another limit, as many units wait.
local backlog = {}

function backlog.look(key, now, capacity, scale, rate, cost)
  local full = capacity * scale
  local waiting, mended = 0, false
  local over, fraction, its_rate, its_scale, its_capacity =
    string.match(redis.call('GET', key) or '', '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
  if over then
    its_rate, its_scale, its_capacity = tonumber(its_rate), tonumber(its_scale), tonumber(its_capacity)
    waiting = math.max(0, (over - now) * its_rate + fraction)
    mended = waiting > 2 * its_capacity * its_scale
    if mended or its_rate ~= rate or its_scale ~= scale or its_capacity ~= capacity then
      waiting = math.min(full, math.floor(waiting / its_scale * scale))
    end
  end
  local needed = cost * scale
  local allowed = cost == 0 or waiting + needed <= full
  local retry_after = allowed and 0 or cost > capacity and -1 or math.ceil((waiting + needed - full) / rate)
  local remaining = math.max(0, math.floor((full - waiting) / scale))
  return allowed, remaining, retry_after, math.ceil(waiting / rate), mended, waiting
end

function backlog.take(key, now, capacity, scale, rate, cost, _, waiting)
  local full = capacity * scale
  waiting = math.max(0, math.min(2 * full, waiting + cost * scale))
  local over = now + math.floor(waiting / rate)
  local value = string.format('%.0f:%.0f:%.0f:%.0f:%.0f', over, waiting % rate, rate, scale, capacity)
  local reset_after = math.ceil(waiting / rate)
  keep(key, value, reset_after)
  return math.max(0, math.floor((full - waiting) / scale)), reset_after
end

algorithms.backlog = backlog
