-- Sliding window log. a: length of the window. A zset, member "<running total>:<cost>", score time.
-- One entry per request whatever it costs. Entries carry a running total, so what is used is a difference of two of
-- them and never a sum. Times rise strictly: entries of one microsecond stay apart, and a clock that goes back cannot
-- reorder them. Commands: 5 and TIME when allowed, 2 and TIME when refused, or 4 and a binary search when the first
-- entry to leave does not free enough.
local log = {}

local function entry(found)
  local total, units = string.match(found[1] or '0:0', '^(%d+):(%d+)$')
  return tonumber(total), tonumber(units), tonumber(found[2] or 0), found[1]
end

local function first_live(key, now, window)
  return entry(redis.call('ZRANGE', key, '(' .. digits(now - window), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'))
end

local function append(key, total, units, at, window, now)
  redis.call('ZADD', key, digits(at), digits(total) .. ':' .. digits(units))
  redis.call('PEXPIRE', key, digits(math.ceil((at + window - now) / 1000)))
end

-- The first entry whose running total is at least `wanted`. Totals rise with the rank, so it can be searched.
local function reaching(key, wanted, oldest)
  local low, high = redis.call('ZRANK', key, oldest), redis.call('ZCARD', key) - 1
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    local total = entry(redis.call('ZRANGE', key, middle, middle, 'WITHSCORES'))
    if total >= wanted then
      high = middle
    else
      low = middle
    end
  end
  local total, units, at = entry(redis.call('ZRANGE', key, high, high, 'WITHSCORES'))
  return total, units, at, high
end

function log.look(key, now, limit, window, _, cost)
  local total, _, last = entry(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES'))
  local first, first_cost, oldest_at, oldest = first_live(key, now, window)
  if not oldest then
    total = 0
  end
  local used = total - first + first_cost
  local mended = last > now + window
  if mended then
    total, last, first, oldest_at = used, now, used, now
  end
  local remaining = math.max(0, limit - used)
  local allowed, retry_after = cost <= remaining, 0
  if cost > limit then
    retry_after = -1
  elseif not allowed then
    local wanted, at = total + cost - limit, oldest_at
    if first < wanted then
      _, _, at = reaching(key, wanted, oldest)
    end
    retry_after = at + window - now
  end
  return allowed, remaining, retry_after, used > 0 and last + window - now or 0, mended, total, last, used
end

-- Units come back from the oldest entries. Those that stay are then no older than the requests that were really made,
-- so no window can ever hold more than the limit.
local function give_back(key, now, window, units, last)
  local first, first_cost, at, member = first_live(key, now, window)
  local wanted, total, cost = first - first_cost + units, first, first_cost
  local rank = redis.call('ZRANK', key, member)
  if first < wanted then
    total, cost, at, rank = reaching(key, wanted, member)
  end
  redis.call('ZREMRANGEBYRANK', key, 0, rank)
  local rest = math.min(cost, total - wanted)
  if rest > 0 then
    redis.call('ZADD', key, digits(at), digits(total) .. ':' .. digits(rest))
    redis.call('PEXPIRE', key, digits(math.ceil((last + window - now) / 1000)))
  end
end

function log.take(key, now, limit, window, _, cost, mended, total, last, used)
  if mended then
    redis.call('DEL', key)
    append(key, used, used, now, window, now)
  end
  if cost < 0 then
    cost = math.max(cost, -used)
    if cost == -used then
      redis.call('DEL', key)
    elseif cost < 0 then
      give_back(key, now, window, -cost, last)
    end
  elseif cost > 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', digits(now - window))
    last = math.max(now, last + 1)
    append(key, total + cost, cost, last, window, now)
  end
  used = used + cost
  return math.max(0, limit - used), used > 0 and last + window - now or 0
end

algorithms.log = log
