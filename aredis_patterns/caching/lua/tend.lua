-- Makes sure that the versions of a cache exist, and outlive every value that is stored under them.
--
-- A version that was lost (evicted, flushed) comes back with a number above all earlier ones: what was stored before
-- does not count any more. So losing a version clears, and never brings back what was invalidated.
--
-- KEYS[1] epoch           string  <ns>:cache:{<name>}:epoch    number of the last clear()
-- KEYS[2] tags            zset    <ns>:cache:{<name>}:tags     tag -> number; !born -> since when tags are known
-- ARGV[1] horizon         ms      how long they must live; 0 for ever
-- RETURN[1] version       number  the highest one
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local epoch = KEYS[1]
local tags = KEYS[2]
local horizon = tonumber(ARGV[1])

local time = redis.call('TIME')
local current = tonumber(redis.call('GET', epoch) or 0)
local newest = redis.call('ZRANGE', tags, 0, 0, 'REV', 'WITHSCORES')
local version = math.max(current, tonumber(newest[2] or 0))
local next_version = math.max(version + 1, time[1] * 1000000 + time[2])
local number = string.format('%.0f', next_version)

if current == 0 then
  redis.call('SET', epoch, number, 'PX', math.max(horizon, 1))
  version = next_version
end
local born = redis.call('ZADD', tags, 'NX', number, '!born') == 1
if born then
  version = next_version
end

-- Only ever prolonged: what lives for ever keeps doing so.
if horizon == 0 then
  redis.call('PERSIST', epoch)
  redis.call('PERSIST', tags)
else
  local life = redis.call('PTTL', epoch)
  if life >= 0 and life < horizon then
    redis.call('PEXPIRE', epoch, horizon)
  end
  life = redis.call('PTTL', tags)
  if born or (life >= 0 and life < horizon) then
    redis.call('PEXPIRE', tags, horizon)
  end
end
return {version}
