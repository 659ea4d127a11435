-- Takes one of a few places under a lease, renews it, or waits in line for one. Leases end by the server's clock.
-- INCLUDE _common
--
-- Places whose lease is over are free again, so a crashed holder costs its lease and no more. A free place goes to
-- whoever has waited longest: it is theirs at once, and a message tells them. Running it again with the same token
-- renews the lease, or keeps the place in line.
--
-- KEYS[1] holders          zset    <ns>:rl:leases:<name>:{<key>}  member token, score end of its lease in us
-- KEYS[2] line             zset    <ns>:rl:leases:<name>:{<key>}:line  member "<token>:<lease>:<channel>"
--    score arrival in us
-- ARGV[1] limit            places  how many there are
-- ARGV[2] lease            us      how long a place is held without renewal
-- ARGV[3] token            text    of this holder
-- ARGV[4] mode             0|1|2   0 looks for a free place; 1 also stands in line; 2 only renews
-- ARGV[5] channel          text    where to tell this waiter; empty: nowhere
-- RETURN[1] allowed        0|1     whether the token holds a place now
-- RETURN[2] remaining      places  free
-- RETURN[3] retry_after    us      until the first lease ends; 0 allowed
-- RETURN[4] ahead          tokens  that wait before this one
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local holders = KEYS[1]
local line = KEYS[2]
local limit = tonumber(ARGV[1])
local lease = tonumber(ARGV[2])
local token = ARGV[3]
local mode = tonumber(ARGV[4])
local channel = ARGV[5]

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

redis.call('ZREMRANGEBYSCORE', holders, '-inf', digits(now))
local held = redis.call('ZCARD', holders)

local function hold(who, us)
  redis.call('ZADD', holders, digits(now + us), who)
  redis.call('PEXPIRE', holders, digits(math.max(math.ceil(us / 1000), redis.call('PTTL', holders))))
end

local mine = token .. ':' .. digits(lease) .. ':' .. channel
local holding = redis.call('ZSCORE', holders, token)
if not holding and mode == 1 then
  local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')
  redis.call('ZADD', line, 'NX', digits(math.max(now, tonumber(last[2] or 0) + 1)), mine)
  redis.call('PEXPIRE', line, 600000)
end

while held < limit and mode < 2 do
  local first = redis.call('ZPOPMIN', line)[1]
  if not first then
    break
  end
  local who, us, where = string.match(first, '^([^:]+):(%d+):(.*)$')
  hold(who, tonumber(us))
  held = held + 1
  if who == token then
    holding = true
  elseif where ~= '' then
    redis.call('PUBLISH', where, who .. '\n1')
  end
end

if holding then
  hold(token, lease)
elseif mode == 0 and held < limit then
  hold(token, lease)
  holding, held = true, held + 1
end

local retry_after = 0
if not holding then
  local first = redis.call('ZRANGE', holders, 0, 0, 'WITHSCORES')
  retry_after = first[2] and math.max(1, first[2] - now) or -1
end
return {holding and 1 or 0, math.max(0, limit - held), retry_after, redis.call('ZRANK', line, mine) or 0}
