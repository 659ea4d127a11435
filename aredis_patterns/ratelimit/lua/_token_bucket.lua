-- Token bucket. a: parts in a token, b: parts flowing in per us. Value "<level in parts>:<scale>:<date of the level>".
-- Nothing is ever rounded, and the wait is exact. The scale is stored with the level, which is converted when the limit
-- changes. A level dated after now means that the clock went back: the bucket stops refilling until then.
local bucket = {}

function bucket.look(key, now, capacity, scale, rate, cost)
  local full = capacity * scale
  local level, date, mended = full, now, false
  local stored, its_scale, dated = string.match(redis.call('GET', key) or '', '^(-?%d+):(%d+):(%d+)$')
  if stored then
    level, its_scale, dated = tonumber(stored), tonumber(its_scale), tonumber(dated)
    if its_scale ~= scale then
      level = math.floor(level / its_scale * scale)
    end
    level = math.max(-full, level)
    mended = dated > now + math.ceil(full / rate)
    if not mended then
      date = math.max(now, dated)
      level = level + (date - dated) * rate
    end
    level = math.min(full, level)
  end
  local needed = cost * scale
  local allowed = needed <= math.max(0, level)
  local retry_after = allowed and 0 or cost > capacity and -1 or date - now + math.ceil((needed - level) / rate)
  local reset_after = level < full and date - now + math.ceil((full - level) / rate) or 0
  return allowed, math.max(0, math.floor(level / scale)), retry_after, reset_after, mended, level, date
end

function bucket.take(key, now, capacity, scale, rate, cost, _, level, date)
  local full = capacity * scale
  level = math.max(-full, math.min(full, level - cost * scale))
  local reset_after = level < full and date - now + math.ceil((full - level) / rate) or 0
  keep(key, string.format('%.0f:%.0f:%.0f', level, scale, date), reset_after)
  return math.max(0, math.floor(level / scale)), reset_after
end

algorithms.bucket = bucket
