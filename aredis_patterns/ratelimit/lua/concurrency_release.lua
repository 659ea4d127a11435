-- Gives a place back, or leaves the line; a free place goes to whoever has waited longest.
-- INCLUDE _common
--
-- KEYS[1] holders          zset    <ns>:rl:leases:<name>:{<key>}  member token, score end of its lease in us
-- KEYS[2] line             zset    <ns>:rl:leases:<name>:{<key>}:line  member "<token>:<lease>:<channel>"
--    score arrival in us
-- ARGV[1] limit            places  how many there are
-- ARGV[2] lease            us      what the token asked for when it came
-- ARGV[3] token            text    of this holder
-- ARGV[4] channel          text    where this waiter would have been told
-- RETURN[1] released       0|1     whether the token held a place
-- READ-ONLY no
-- REPLAY-SAFE no
--
local holders = KEYS[1]
local line = KEYS[2]
local limit = tonumber(ARGV[1])
local lease = tonumber(ARGV[2])
local token = ARGV[3]
local channel = ARGV[4]

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

redis.call('ZREM', line, token .. ':' .. digits(lease) .. ':' .. channel)
local ends = tonumber(redis.call('ZSCORE', holders, token) or 0)
redis.call('ZREM', holders, token)
redis.call('ZREMRANGEBYSCORE', holders, '-inf', digits(now))

local held = redis.call('ZCARD', holders)
while held < limit do
  local first = redis.call('ZPOPMIN', line)[1]
  if not first then
    break
  end
  local who, us, where = string.match(first, '^([^:]+):(%d+):(.*)$')
  redis.call('ZADD', holders, digits(now + us), who)
  redis.call('PEXPIRE', holders, digits(math.max(math.ceil(us / 1000), redis.call('PTTL', holders))))
  held = held + 1
  if where ~= '' then
    redis.call('PUBLISH', where, who .. '\n1')
  end
end
return {ends > now and 1 or 0}
