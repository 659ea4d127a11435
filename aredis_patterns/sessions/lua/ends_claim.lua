-- Takes ends that nobody has read yet, for a while.
--
-- A session whose time is over turns from "live" into "expired" here: this is when its end is found, whether or not
-- anybody ran while it expired. What is taken is hidden from others until the lease is over, and is theirs again if the
-- reader has not removed it by then.
--
-- KEYS[1] ends         zset   <ns>:sess:<name>:{<tag>}:ends  member "<reason>:<handle>:<user>", score ms from which on
-- ARGV[1] lease        ms     how long the reader has
-- ARGV[2] keep         ms     older ends are dropped
-- ARGV[3] most         count  of ends to take
-- RETURN[1] taken      list   members
-- RETURN[2] next       ms     until there may be more; -1: there is nothing at all
-- RETURN[3] now        ms     server time: as a score, what is given back at once
-- READ-ONLY no
-- REPLAY-SAFE no
--
local ends = KEYS[1]
local lease = tonumber(ARGV[1])
local keep = tonumber(ARGV[2])
local most = tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local first = redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES')
if not first[1] or tonumber(first[2]) > now then
  return {{}, first[1] and first[2] - now or -1, now}
end
redis.call('ZREMRANGEBYSCORE', ends, '-inf', now - keep)
local taken = redis.call('ZRANGE', ends, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
for at, member in ipairs(taken) do
  if string.sub(member, 1, 5) == 'live:' then
    redis.call('ZREM', ends, member)
    taken[at] = 'expired:' .. string.sub(member, 6)
  end
  redis.call('ZADD', ends, now + lease, taken[at])
end
first = redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES')
return {taken, first[1] and math.max(0, first[2] - now) or -1, now}
