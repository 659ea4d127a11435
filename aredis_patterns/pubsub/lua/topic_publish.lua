-- Appends messages to a topic, once, and hands them to those who listen.
--
-- Each message gets the next number of the topic, so whoever reads sees by a hole in the numbers how many were trimmed
-- before. An operation that comes twice (its reply was lost) finds itself in the window of its producer and answers as
-- before. With `interest` the topic is full rather than cut where a live durable subscription still needs a message.
-- Channel: "<id> <number> <lengths>\n<bodies>" of the first message, ids and numbers of the others rise by one.
--
-- KEYS[1] stream      stream   <ns>:topic:{<name>}                 the messages: n number, d data
-- KEYS[2] counter     string   <ns>:topic:{<name>}:count           number of the newest message
-- KEYS[3] window      hash     <ns>:topic:{<name>}:by:<producer>   operation -> "<id> <number>"
-- KEYS[4] dedup       string   <ns>:topic:{<name>}:dedup:<id>      "<id> <number>"; any key of the topic without one
-- KEYS[5] durables    zset     <ns>:topic:{<name>}:durables        durable subscriptions, score: expires at, in ms
-- KEYS[6] floors      hash     <ns>:topic:{<name>}:floors          durable -> number below which it needs nothing
-- ARGV[1] operation   units    counted by the producer
-- ARGV[2] remember    units    how many operations the window holds
-- ARGV[3] dedup_ttl   ms       how long the id of the message is remembered; 0: it has none
-- ARGV[4] maxlen      units    most messages; 0: as many as there is memory
-- ARGV[5] max_age     ms       how old they become; 0: any age
-- ARGV[6] interest    0|1      1: never trim what a live durable needs
-- ARGV[7] channel     text     where those listen who are there now
-- ARGV[8] sharded     0|1      1: SPUBLISH
-- ARGV[9] lengths     text     bytes of each body, with commas
-- ARGV[10] bodies     bytes    the bodies, one after the other
-- RETURN[1] status    0|1|2    0 full, 1 published, 2 published before under this dedup id
-- RETURN[2] id        text     of the first message; empty when full
-- RETURN[3] number    units    of the first message; when full, how many would have fitted
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local stream = KEYS[1]
local counter = KEYS[2]
local window = KEYS[3]
local dedup = KEYS[4]
local durables = KEYS[5]
local floors = KEYS[6]
local operation = tonumber(ARGV[1])
local remember = tonumber(ARGV[2])
local dedup_ttl = tonumber(ARGV[3])
local maxlen = tonumber(ARGV[4])
local max_age = tonumber(ARGV[5])
local interest = tonumber(ARGV[6])
local channel = ARGV[7]
local sharded = tonumber(ARGV[8])
local lengths = ARGV[9]
local bodies = ARGV[10]

local WINDOW_TTL = 120000 -- longer than any command waits for a connection to be sent again
local COUNTER_TTL = 30 * 24 * 3600 * 1000 -- beyond the messages: a count that begins anew looks like a loss
local EXACT = 1000 -- up to here a topic is trimmed to the message, above by whole nodes of the stream

local function digits(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local number
local status, id = 1, redis.call('HGET', window, digits(operation))
if not id and dedup_ttl > 0 then
  id = redis.call('GET', dedup)
  status = id and 2 or 1
end

if id then
  local answer
  answer, id, number = string.match(id, '^(%d) (%S+) (%d+)$')
  status = math.max(status, tonumber(answer))
  number = tonumber(number)
else
  local sizes = {}
  for size in string.gmatch(lengths, '%d+') do
    sizes[#sizes + 1] = tonumber(size)
  end
  local length = maxlen > 0 and redis.call('XLEN', stream) or 0
  local excess = maxlen > 0 and length + #sizes - maxlen or 0
  local allowed = excess
  if excess > 0 and interest == 1 then
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local first = oldest and oldest[2][1] == 'n' and tonumber(oldest[2][2]) or 1
    for _, name in ipairs(redis.call('ZRANGE', durables, digits(now), '+inf', 'BYSCORE')) do
      local floor = tonumber(redis.call('HGET', floors, name) or first)
      allowed = math.min(allowed, math.max(0, floor - first))
    end
  end

  if excess > allowed then
    status, id, number = 0, '', math.max(0, #sizes - (excess - allowed))
  else
    number = redis.call('INCRBY', counter, #sizes) - #sizes + 1
    local at, ms, sequence = 1, '*', 0
    for index, size in ipairs(sizes) do
      -- The clock stands still inside a script, so the ids that follow the first are known.
      local wanted = index == 1 and '*' or ms .. '-' .. digits(sequence + index - 1)
      local body = string.sub(bodies, at, at + size - 1)
      local given = redis.call('XADD', stream, wanted, 'n', digits(number + index - 1), 'd', body)
      if index == 1 then
        id = given
        ms, sequence = string.match(given, '^(%d+)-(%d+)$')
        sequence = tonumber(sequence)
      end
      at = at + size
    end

    if excess > 0 then
      redis.call('XTRIM', stream, 'MAXLEN', maxlen <= EXACT and '=' or '~', digits(maxlen))
    end
    if max_age > 0 then
      redis.call('XTRIM', stream, 'MINID', '~', digits(now - max_age))
      redis.call('PEXPIRE', stream, digits(max_age))
      redis.call('PEXPIRE', counter, digits(max_age + COUNTER_TTL))
    end

    local record = '1 ' .. id .. ' ' .. digits(number)
    redis.call('HSET', window, digits(operation), record)
    redis.call('HDEL', window, digits(operation - remember))
    redis.call('PEXPIRE', window, WINDOW_TTL)
    if dedup_ttl > 0 then
      redis.call('SET', dedup, record, 'PX', digits(dedup_ttl))
    end
    -- Not allowed to publish: the message is there all the same, and whoever reads has to look.
    local verb = sharded == 1 and 'SPUBLISH' or 'PUBLISH'
    redis.pcall(verb, channel, id .. ' ' .. digits(number) .. ' ' .. lengths .. '\n' .. bodies)
  end
end
return {status, id, number}
