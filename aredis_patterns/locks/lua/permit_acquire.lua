-- Takes permits of a semaphore for a token, or puts the token into the queue.
--
-- Each permit is an entry with a time of its own, so what a dead holder had comes back when that is over, and never
-- twice. First come, first served: nobody passes those who wait. A token that holds permits gets them again, with a
-- newer fence: the earlier answer was never seen. That is also how a waiter takes up what was reserved for it.
--
-- KEYS[1] held         zset    <ns>:permits:{<key>}         member "<token>:<n>", score end in us
-- KEYS[2] fence        string  <ns>:permits:{<key>}:fence   the last fence given
-- KEYS[3] queue        zset    <ns>:permits:{<key>}:queue   member "<token>\n<weight>\n<inbox>", score ticket
-- ARGV[1] token        text    who wants them: one per attempt to acquire, never used again
-- ARGV[2] ttl          ms      life of the grant
-- ARGV[3] limit        count   permits in all
-- ARGV[4] weight       count   permits wanted, all or none
-- ARGV[5] inbox        text    channel of the process
-- ARGV[6] enqueue      0|1     wait in the queue when there are too few
-- ARGV[7] ticket       us      place in the queue from an earlier call; 0 at first
-- RETURN[1] granted    0|1     whether the token holds them
-- RETURN[2] number     fence   of this grant; 0 without one
-- RETURN[3] place      us      ticket to give with the next call
-- RETURN[4] again      ms      until the next permit ends; 0: there are enough, but others come first
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local held = KEYS[1]
local fence = KEYS[2]
local queue = KEYS[3]
local token = ARGV[1]
local ttl = tonumber(ARGV[2])
local limit = tonumber(ARGV[3])
local weight = tonumber(ARGV[4])
local inbox = ARGV[5]
local enqueue = ARGV[6]
local ticket = tonumber(ARGV[7])

local FENCE_TTL = 2592000000 -- 30 days
local QUEUE_TTL = 60000 -- waiters come back every few seconds and renew it

local function digits(number)
  return string.format('%.0f', number)
end

local me = token .. '\n' .. weight .. '\n' .. inbox
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', held, '-inf', digits(now))
local mine = redis.call('ZSCORE', held, token .. ':1')
local enough = redis.call('ZCARD', held) + weight <= limit
local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
local turn = not first[1] or first[1] == me or (ticket > 0 and ticket < tonumber(first[2]))

local granted, number, place, again = 0, 0, ticket, 0
if mine or (enough and turn) then
  granted = 1
  local last = tonumber(redis.call('GET', fence) or 0) or 0
  number = math.max(last + 1, now)
  redis.call('SET', fence, digits(number), 'PX', FENCE_TTL)
  for n = 1, weight do
    redis.call('ZADD', held, digits(now + ttl * 1000), token .. ':' .. n)
  end
  if redis.call('PTTL', held) < ttl then
    redis.call('PEXPIRE', held, ttl)
  end
  redis.call('ZREM', queue, me)
else
  if not enough then
    local next_end = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')[2]
    again = next_end and math.max(1, math.ceil((tonumber(next_end) - now) / 1000)) or -1
  end
  if enqueue == '1' then
    if place == 0 then
      local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
      place = math.max(now, tonumber(last[2] or 0) + 1)
    end
    redis.call('ZADD', queue, digits(place), me)
    redis.call('PEXPIRE', queue, QUEUE_TTL)
  end
end
return {granted, number, place, again}
