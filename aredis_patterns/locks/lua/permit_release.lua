-- Ends what a token has of a semaphore: permits, reservations, its place in the queue. Wakes whom there is room for.
--
-- Whoever is woken has its permits reserved for a short while, and takes them up with its next call. A waiter whose
-- process has gone hears nothing; that shows in the answer of PUBLISH (not in a Cluster).
--
-- With an empty token it only looks whether somebody should be woken. Doing it twice wakes nobody twice.
--
-- KEYS[1] held         zset    <ns>:permits:{<key>}         member "<token>:<n>", score end in us
-- KEYS[2] queue        zset    <ns>:permits:{<key>}:queue   member "<token>\n<weight>\n<inbox>", score ticket
-- ARGV[1] token        text    whose claims end; empty: nobody's
-- ARGV[2] member       text    its entry in the queue; empty: it has none
-- ARGV[3] limit        count   permits in all
-- ARGV[4] countable    0|1     whether the answer of PUBLISH can be believed
-- ARGV[5] reserve      ms      life of a reservation
-- RETURN[1] released   count   permits that the token still had
-- RETURN[2] waiting    count   entries left in the queue
-- RETURN[3] again      ms      when to look again if nothing else happens; 0 when nobody waits, -1 no end
-- READ-ONLY no
-- REPLAY-SAFE no
--
local held = KEYS[1]
local queue = KEYS[2]
local token = ARGV[1]
local member = ARGV[2]
local limit = tonumber(ARGV[3])
local countable = ARGV[4]
local reserve = tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', held, '-inf', string.format('%.0f', now))

local released = 0
if token ~= '' then
  while redis.call('ZREM', held, token .. ':' .. (released + 1)) == 1 do
    released = released + 1
  end
end
if member ~= '' then
  redis.call('ZREM', queue, member)
end

local used = redis.call('ZCARD', held)
local woken = false
local head = redis.call('ZRANGE', queue, 0, 0)[1]
while head do
  local waiter, weight, inbox = string.match(head, '^([^\n]*)\n(%d+)\n(.*)$')
  weight = tonumber(weight)
  if used + weight > limit then
    break
  end
  redis.call('ZREM', queue, head)
  if redis.call('PUBLISH', inbox, waiter .. '\nfree') > 0 or countable == '0' then
    for n = 1, weight do
      redis.call('ZADD', held, string.format('%.0f', now + reserve * 1000), waiter .. ':' .. n)
    end
    if redis.call('PTTL', held) < reserve then
      redis.call('PEXPIRE', held, reserve)
    end
    used, woken = used + weight, true
  end
  head = redis.call('ZRANGE', queue, 0, 0)[1]
end

local waiting, again = redis.call('ZCARD', queue), 0
redis.call('PEXPIRE', queue, 60000) -- those who wait are still there
if woken then
  again = reserve
elseif waiting > 0 then
  local next_end = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')[2]
  again = next_end and math.max(1, math.ceil((tonumber(next_end) - now) / 1000)) or -1
end
return {released, waiting, again}
