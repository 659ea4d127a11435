-- Invalidates everything that bears one of these tags, or the whole cache: one number per tag, however many entries.
--
-- Numbers rise strictly, also when the clock goes back. Tags that no living value can bear are forgotten: values older
-- than the horizon do not count from then on.
--
-- KEYS[1] epoch           string  <ns>:cache:{<name>}:epoch
-- KEYS[2] tags            zset    <ns>:cache:{<name>}:tags
-- ARGV[1] names           text    tags with a blank between; "" for the whole cache
-- ARGV[2] horizon         ms      how long values may live; 0 for ever
-- RETURN[1] version       number  of this invalidation; 0 when nothing is stored that could count
-- READ-ONLY no
-- REPLAY-SAFE no
--
local epoch = KEYS[1]
local tags = KEYS[2]
local names = ARGV[1]
local horizon = tonumber(ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local current = tonumber(redis.call('GET', epoch) or 0)
local newest = redis.call('ZRANGE', tags, 0, 0, 'REV', 'WITHSCORES')
local version = math.max(now, current + 1, tonumber(newest[2] or 0) + 1)
local number = string.format('%.0f', version)
if names == '' then
  if current == 0 then
    return {0}
  end
  redis.call('SET', epoch, number, 'KEEPTTL')
  return {version}
end

if not redis.call('ZSCORE', tags, '!born') then
  return {0}
end
for name in string.gmatch(names, '%S+') do
  redis.call('ZADD', tags, number, name)
end
if horizon > 0 then
  local over = string.format('%.0f', now - horizon * 1000)
  redis.call('ZREMRANGEBYSCORE', tags, '-inf', '(' .. over)
  redis.call('ZADD', tags, 'GT', over, '!born')
end
return {version}
