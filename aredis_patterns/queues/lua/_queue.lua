-- KEYS[1] messages     hash    <ns>:queue:{<queue>}:messages    id -> envelope; the one place where a message is
-- KEYS[2] ready        zset    <ns>:queue:{<queue>}:ready       id, by priority and round: who is next
-- KEYS[3] leases       zset    <ns>:queue:{<queue>}:leases      id, by the deadline of its lease (us): who has it
-- KEYS[4] delayed      zset    <ns>:queue:{<queue>}:delayed     id, by the time when it is due (us)
-- KEYS[5] failures     hash    <ns>:queue:{<queue>}:failures    id -> "<failed deliveries> <last reason>"
-- KEYS[6] dead         zset    <ns>:queue:{<queue>}:dead        id, by the time of its death (us)
-- KEYS[7] keyed        zset    <ns>:queue:{<queue>}:keyed       "<ordering key> NUL <id>" of unfinished messages
-- KEYS[8] rounds       zset    <ns>:queue:{<queue>}:rounds      "<priority>:<group>", by its last round
-- KEYS[9] dedup        zset    <ns>:queue:{<queue>}:dedup       dedup key, by the id it stands for
-- KEYS[10] consumers   zset    <ns>:queue:{<queue>}:consumers   address of who waits for a message, by its expiry (us)
-- KEYS[11] producers   zset    <ns>:queue:{<queue>}:producers   address of who waits for room, by its expiry (us)
-- KEYS[12] counters    hash    <ns>:queue:{<queue>}:counters    last id given; how many were enqueued, done, ...
-- KEYS[13] paused      string  <ns>:queue:{<queue>}:paused      there while nothing may be delivered
-- KEYS[14] answer      string  <ns>:queue:{<queue>}:<turn>      number and answer of the last turn of one caller

-- What the scripts of a queue share. An id is the moment at which the message was enqueued, in microseconds, 16 digits:
-- ids sort by age, as numbers and as text.
--
-- `ready` is sorted by -priority * BAND + round, then by id. New messages take the round after the one that is being
-- served, a group takes one place per round: so groups have equal shares, and without groups order is by age.

local messages = KEYS[1]
local ready = KEYS[2]
local leases = KEYS[3]
local delayed = KEYS[4]
local failures = KEYS[5]
local dead = KEYS[6]
local keyed = KEYS[7]
local rounds = KEYS[8]
local dedup = KEYS[9]
local consumers = KEYS[10]
local producers = KEYS[11]
local counters = KEYS[12]
local paused = KEYS[13]
local answer = KEYS[14]

local BAND = 1099511627776 -- 2^40 rounds per priority
local MEMORY = 2592000000 -- 30 days in ms: how long counters outlive the last use
local REPLAY = 3600000 -- an hour in ms: how late a repeated turn is still recognised
local NOT_HEARD = 3 -- how many waiting addresses are tried until one is heard

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function digits(number)
  return string.format('%.0f', number)
end

-- The first line of an envelope: priority, group, ordering key, ... Empty for a plain message.
local function facts(envelope)
  if string.byte(envelope) == 10 then
    return {}
  end
  -- What cannot be read is nothing special: its consumer buries it, it must not stop the scripts of everybody.
  local readable, found = pcall(cjson.decode, string.match(envelope, '^[^\n]*'))
  return readable and type(found) == 'table' and found or {}
end

-- The score of the message that is served next in a priority.
local function front(low)
  return tonumber(redis.call('ZRANGEBYSCORE', ready, low, '(' .. digits(low + BAND), 'WITHSCORES', 'LIMIT', 0, 1)[2])
end

-- Ready, in its old place: before all that are younger.
local function put_back(id, about)
  local low = -(about.priority or 0) * BAND
  redis.call('ZADD', ready, front(low) or low + 1, id)
end

-- Ready for the first time: in the next round, or where its group has its next place.
local function join(id, about)
  local low = -(about.priority or 0) * BAND
  local served = front(low)
  local round = (served or low) + 1
  if about.group then
    local member = (about.priority or 0) .. ':' .. about.group
    redis.call('ZREMRANGEBYSCORE', rounds, low, served or '(' .. digits(low + BAND))
    round = math.max(round, (tonumber(redis.call('ZSCORE', rounds, member) or low)) + 1)
    redis.call('ZADD', rounds, round, member)
    redis.call('PEXPIRE', rounds, MEMORY)
  end
  redis.call('ZADD', ready, round, id)
end

local function due_of(id, about)
  return about.at or (about.delay and id + about.delay) or 0
end

-- What held this message back is over. It keeps its age, but a group does not get around its turn.
local function resume(id, about)
  local due = due_of(id, about)
  if due > now then
    redis.call('ZADD', delayed, due, id)
  elseif about.group and redis.call('HEXISTS', failures, id) == 0 then
    join(id, about)
  else
    put_back(id, about)
  end
end

local function next_of_key(key)
  return redis.call('ZRANGEBYLEX', keyed, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 1)[1]
end

-- A message that was not there before. Behind its ordering key it waits in `keyed` alone.
local function admit(id, about)
  if about.key then
    local busy = next_of_key(about.key)
    redis.call('ZADD', keyed, 0, about.key .. '\0' .. id)
    if busy then
      return
    end
  end
  local due = due_of(id, about)
  if due > now then
    redis.call('ZADD', delayed, due, id)
  else
    join(id, about)
  end
end

-- This message is over: the next one of its ordering key may come.
local function leave(id, about)
  if about.key then
    redis.call('ZREM', keyed, about.key .. '\0' .. id)
    local successor = next_of_key(about.key)
    if successor then
      local successor_id = string.sub(successor, -16)
      resume(successor_id, facts(redis.call('HGET', messages, successor_id) or '\n'))
    end
  end
end

-- One more failed delivery; the number of them.
local function fail(id, reason)
  local failed = tonumber(string.match(redis.call('HGET', failures, id) or '', '^%d+') or 0) + 1
  redis.call('HSET', failures, id, failed .. ' ' .. reason)
  return failed
end

local function bury(id, about, keep)
  leave(id, about)
  if keep then
    redis.call('ZADD', dead, now, id)
  else
    redis.call('HDEL', messages, id)
    redis.call('HDEL', failures, id)
  end
  redis.call('HINCRBY', counters, 'dead', 1)
end

-- Addresses are "<channel> <waiter>". PUBLISH may be forbidden: then everybody polls.
local function heard(address, expiry)
  local channel, waiter = string.match(address or '', '^(.+) (%S+)$')
  if not channel or tonumber(expiry) < now then
    return false
  end
  local receivers = redis.pcall('PUBLISH', channel, waiter .. '\n')
  return type(receivers) == 'table' or receivers > 0
end

local function wake_consumer()
  for _ = 1, NOT_HEARD do
    local waiting = redis.call('ZPOPMIN', consumers)
    if not waiting[1] or heard(waiting[1], waiting[2]) then
      return
    end
  end
end

local function wake_producer()
  for _ = 1, NOT_HEARD do
    local waiting = redis.call('ZPOPMIN', producers)
    if not waiting[1] or heard(waiting[1], waiting[2]) then
      return
    end
  end
end

-- The answer of the last turn of this caller: its number, then what was remembered.
local function last_turn()
  local known = redis.call('GET', answer)
  return known and cmsgpack.unpack(known) or {0}
end

local function remember(turn)
  redis.call('SET', answer, cmsgpack.pack(turn), 'PX', REPLAY)
  redis.call('PEXPIRE', counters, MEMORY)
end
