-- Takes a read-write lock for reading or writing, or puts the token into the queue of its kind.
--
-- Many read or one writes. A waiting writer stops new readers; when it has written, all readers that queued meanwhile
-- come before the next writer (rw_release). So neither starves: a reader waits for one writer, a writer for the readers
-- that are in and one round of those that queued. Each part has a time of its own, so a dead reader is in nobody's way
-- for longer. A token that is in gets its part again, with a newer fence: the earlier answer was never seen. That is
-- also how a waiter takes up what was reserved for it.
--
-- KEYS[1] held         zset    <ns>:rwlock:{<key>}           member "<r|w>:<token>", score end in us
-- KEYS[2] fence        string  <ns>:rwlock:{<key>}:fence     the last fence given
-- KEYS[3] readers      zset    <ns>:rwlock:{<key>}:readers   member "<token>\n<inbox>", score ticket
-- KEYS[4] writers      zset    <ns>:rwlock:{<key>}:writers   member "<token>\n<inbox>", score ticket
-- ARGV[1] token        text    who wants it: one per attempt to acquire, never used again
-- ARGV[2] kind         r|w     what for
-- ARGV[3] ttl          ms      life of the grant
-- ARGV[4] inbox        text    channel of the process
-- ARGV[5] enqueue      0|1     wait in the queue when it is taken
-- ARGV[6] ticket       us      place in the queue from an earlier call; 0 at first
-- RETURN[1] granted    0|1     whether the token is in
-- RETURN[2] number     fence   of this grant; 0 without one
-- RETURN[3] place      us      ticket to give with the next call
-- RETURN[4] again      ms      until the first of those who are in ends; 0: nobody is in the way but those who wait
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local held = KEYS[1]
local fence = KEYS[2]
local readers = KEYS[3]
local writers = KEYS[4]
local token = ARGV[1]
local kind = ARGV[2]
local ttl = tonumber(ARGV[3])
local inbox = ARGV[4]
local enqueue = ARGV[5]
local ticket = tonumber(ARGV[6])

local FENCE_TTL = 2592000000 -- 30 days
local QUEUE_TTL = 60000 -- waiters come back every few seconds and renew it

local function digits(number)
  return string.format('%.0f', number)
end

local me = token .. '\n' .. inbox
-- Whether nobody in this queue was there before me.
local function first_in(line)
  local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  return not first[1] or first[1] == me or (ticket > 0 and ticket < tonumber(first[2]))
end

local function leave(line)
  redis.call('ZREM', line, me)
end

local function enter(line, place)
  redis.call('ZADD', line, digits(place), me)
  redis.call('PEXPIRE', line, QUEUE_TTL)
end

local function last_in(line)
  return tonumber(redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2] or 0)
end

local queue = kind == 'r' and readers or writers
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', held, '-inf', digits(now))
local mine = redis.call('ZSCORE', held, kind .. ':' .. token)
local inside = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
local open = not inside[1] or (kind == 'r' and string.sub(inside[1], 1, 1) == 'r')
local turn = first_in(writers) and (kind == 'r' or first_in(readers))

local granted, number, place, again = 0, 0, ticket, 0
if mine or (open and turn) then
  granted = 1
  local last = tonumber(redis.call('GET', fence) or 0) or 0
  number = math.max(last + 1, now)
  redis.call('SET', fence, digits(number), 'PX', FENCE_TTL)
  redis.call('ZADD', held, digits(now + ttl * 1000), kind .. ':' .. token)
  if redis.call('PTTL', held) < ttl then
    redis.call('PEXPIRE', held, ttl)
  end
  leave(queue)
else
  if inside[2] then
    again = math.max(1, math.ceil((tonumber(inside[2]) - now) / 1000))
  end
  if enqueue == '1' then
    if place == 0 then
      place = math.max(now, last_in(queue) + 1)
    end
    enter(queue, place)
  end
end
return {granted, number, place, again}
