-- Remembers each allowed request for one window and refuses what would go over the limit in any window.
--
-- One entry per request whatever it costs. Entries carry a running total, so what is used is a difference of two of
-- them and never a sum. Times rise strictly: entries of one microsecond stay apart, and a clock that goes back cannot
-- reorder them; what was counted stays counted until the clock has caught up. If that is more than a window away, all
-- of it counts as used now, even when the request is refused. No other refusal writes: entries that are over are
-- skipped, and removed by the next request that is allowed. Commands: 6 when allowed, 3 when refused, or 5 and a
-- binary search when the first entry to leave does not free enough.
--
-- KEYS[1] log              zset    <ns>:rl:log:<name>:{<key>}  member "<running total>:<cost>", score time in us
-- ARGV[1] limit            units   most units in any window
-- ARGV[2] window           us      length of the window
-- ARGV[3] cost             units   what this request needs
-- ARGV[4] charge           0|1     0 looks only
-- RETURN[1] allowed        0|1     whether the cost fits
-- RETURN[2] remaining      units   left after this request
-- RETURN[3] retry_after    us      until the same request fits; 0 allowed, -1 never
-- RETURN[4] reset_after    us      until nothing is counted any more
-- READ-ONLY no
-- REPLAY-SAFE no
--
local log = KEYS[1]
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local cost = tonumber(ARGV[3])
local charge = tonumber(ARGV[4])

-- Lua writes large numbers with 14 digits unless told otherwise.
local function digits(number)
  return string.format('%.0f', number)
end

local function entry(found)
  local total, units = string.match(found[1] or '0:0', '^(%d+):(%d+)$')
  return {total = tonumber(total), cost = tonumber(units), at = tonumber(found[2] or 0), member = found[1]}
end

local function append(total, units, at, now)
  redis.call('ZADD', log, digits(at), digits(total) .. ':' .. digits(units))
  redis.call('PEXPIRE', log, digits(math.ceil((at + window - now) / 1000)))
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local over = digits(now - window)

local newest = entry(redis.call('ZRANGE', log, -1, -1, 'WITHSCORES'))
local oldest = entry(redis.call('ZRANGE', log, '(' .. over, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'))
local total, last = newest.total, newest.at
if not oldest.member then
  total = 0
end
local used = total - oldest.total + oldest.cost

if last > now + window then
  total, last, oldest = used, now, {total = used, cost = used, at = now}
  if charge == 1 then
    redis.call('DEL', log)
    append(used, used, now, now)
  end
end

-- When enough entries have left for the cost to fit. Running totals rise with the rank, so it can be searched.
local function departure()
  local wanted = total + cost - limit
  if oldest.total >= wanted then
    return oldest.at + window
  end
  local low, high = redis.call('ZRANK', log, oldest.member), redis.call('ZCARD', log) - 1
  local at = last
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    local candidate = entry(redis.call('ZRANGE', log, middle, middle, 'WITHSCORES'))
    if candidate.total >= wanted then
      high, at = middle, candidate.at
    else
      low = middle
    end
  end
  return at + window
end

local remaining = math.max(0, limit - used)
local allowed, retry_after = 1, 0
if cost > remaining then
  allowed, retry_after = 0, cost > limit and -1 or departure() - now
elseif charge == 1 then
  redis.call('ZREMRANGEBYSCORE', log, '-inf', over)
  last = math.max(now, last + 1)
  append(total + cost, cost, last, now)
  used, remaining = used + cost, remaining - cost
end
return {allowed, remaining, retry_after, used > 0 and last + window - now or 0}
