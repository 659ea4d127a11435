-- Takes a lock for a token, or puts the token into the queue of those who wait.
--
-- Check and entry into the queue are one step, so no release can fall between them. A token that holds the lock already
-- gets it again, with the same fence: a repeated call after a lost reply never waits for itself. That is also how a
-- waiter takes up what was reserved for it: a reservation is a lock with fence 0 and a short life.
--
-- The fence is the last one and one more, or the time in microseconds if that is larger. So it still rises when the
-- server has lost its memory (FLUSHALL, failover, eviction), unless its clock also went back.
--
-- Fair: a free lock goes to the longest waiting, never past them. Unfair: a free lock goes to whoever comes.
--
-- KEYS[1] lock         string  <ns>:lock:{<key>}         "<fence>\n<token>\n<inbox>\n<owner>"
-- KEYS[2] fence        string  <ns>:lock:{<key>}:fence   the last fence given
-- KEYS[3] queue        zset    <ns>:lock:{<key>}:queue   member "<token>\n<f|u>\n<inbox>", score ticket
-- ARGV[1] token        text    who wants it: one per attempt to acquire, never used again
-- ARGV[2] ttl          ms      life of the grant
-- ARGV[3] owner        text    shown by info
-- ARGV[4] inbox        text    channel of the process; empty when it listens to none
-- ARGV[5] enqueue      0|1     wait in the queue when it is taken
-- ARGV[6] fair         f|u     which rule holds
-- ARGV[7] ticket       us      place in the queue from an earlier call; 0 at first
-- RETURN[1] granted    0|1     whether the token holds the lock
-- RETURN[2] number     fence   of this grant; 0 without one
-- RETURN[3] place      us      ticket to give with the next call
-- RETURN[4] again      ms      life of what is in the way; 0: it is free, but others come first; -1: no end
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local lock = KEYS[1]
local fence = KEYS[2]
local queue = KEYS[3]
local token = ARGV[1]
local ttl = ARGV[2]
local owner = ARGV[3]
local inbox = ARGV[4]
local enqueue = ARGV[5]
local fair = ARGV[6]
local ticket = tonumber(ARGV[7])

local FENCE_TTL = 2592000000 -- 30 days
local QUEUE_TTL = 60000 -- waiters come back every few seconds and renew it

local me = token .. '\n' .. fair .. '\n' .. inbox
local rest = '\n' .. token .. '\n' .. inbox .. '\n' .. owner
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local digits = string.format('%.0f', now)

local first, first_place
if fair == 'f' then
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  first, first_place = head[1], tonumber(head[2])
end

-- What is free is taken in the same call that looks, with the time as its fence; nearly always that is the right one.
local held, taken
if not first or first == me or (ticket > 0 and ticket < first_place) then
  held = redis.call('SET', lock, digits .. rest, 'NX', 'PX', ttl, 'GET')
  taken = not held
else
  held = redis.call('GET', lock)
end
local number, holder
if held then
  number, holder = string.match(held, '^(%d+)\n([^\n]*)\n')
end

local granted, place, again = 0, ticket, 0
number = tonumber(number or 0)
if taken or holder == token then
  granted = 1
  if number == 0 then
    number = now
    local last = tonumber(redis.call('SET', fence, digits, 'PX', FENCE_TTL, 'GET') or 0) or 0
    if last >= now then
      number = last + 1
      digits = string.format('%.0f', number)
      redis.call('SET', fence, digits, 'PX', FENCE_TTL)
    end
    if held or number > now then
      redis.call('SET', lock, digits .. rest, 'PX', ttl)
    end
  else
    redis.call('PEXPIRE', lock, ttl)
  end
  if ticket > 0 or first then
    redis.call('ZREM', queue, me)
  end
else
  number = 0
  if held then
    again = math.max(redis.call('PTTL', lock), -1)
  end
  if enqueue == '1' then
    if place == 0 then
      local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
      place = math.max(now, tonumber(last[2] or 0) + 1)
    end
    redis.call('ZADD', queue, string.format('%.0f', place), me)
    redis.call('PEXPIRE', queue, QUEUE_TTL)
  end
end
return {granted, number, place, again}
