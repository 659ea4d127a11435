-- One turn of a consumer: settles what it has finished, takes what it wants, says how long it may sleep.
--
-- A lease is known by its deadline: a message that is leased again gets a later one, so (id, deadline) names one
-- delivery, and whoever holds an old one is told that it is lost. Expired leases and delayed messages that are due are
-- found here, so nothing else has to run beside the consumers. Consumers count their turns, as producers do.
--
-- INCLUDE _queue
-- ARGV[1] number      count   of this turn of this consumer
-- ARGV[2] lease       us      for what is taken
-- ARGV[3] want        count   of messages
-- ARGV[4] address     text    whom to wake when it gets less than it wants; empty for nobody
-- ARGV[5] patience    us      until that address is forgotten
-- ARGV[6] most        count   of failed deliveries after which a message is dead; 0 for never
-- ARGV[7] keep        0|1     whether the dead are kept
-- ARGV[8] acks        text    "id:deadline ..." of messages that are done
-- ARGV[9] extends     text    "id:deadline:lease ..." of messages that take longer
-- ARGV[10] releases   text    "id:deadline ..." of messages that nobody has looked at
-- ARGV[11] nacks      JSON    [[id, deadline, delay in us or -1 for never again, reason], ...]; empty for none
-- RETURN[1] state     code    0 fine, 1 the queue is paused, -1 the turn is out of date
-- RETURN[2] clock     us      the server's; new deadlines are this and the lease
-- RETURN[3] next      us      until something may be ready without a message; -1 for nothing known
-- RETURN[4] expired   count   of leases of others that were found expired
-- RETURN[5] lost      pairs   "id:deadline" of deliveries whose lease was not ours any more
-- RETURN[6] ids       ids     that were taken
-- RETURN[7] failed    counts  of failed deliveries, for each id; empty when there are none
-- RETURN[8] envelopes bytes   for each id
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local number = tonumber(ARGV[1])
local lease = tonumber(ARGV[2])
local want = tonumber(ARGV[3])
local address = ARGV[4]
local patience = tonumber(ARGV[5])
local most = tonumber(ARGV[6])
local keep = ARGV[7]
local acks = ARGV[8]
local extends = ARGV[9]
local releases = ARGV[10]
local nacks = ARGV[11]

local EXPIRED = 100 -- so many at a time: a mass of them must not block the server
local DUE = 200

-- Envelopes and failed deliveries of leased messages; those whose body is gone are dropped.
local function fetch(ids)
  local found, envelopes, failed = {}, {}, {}
  if #ids > 0 then
    local bodies = redis.call('HMGET', messages, unpack(ids))
    for i, id in ipairs(ids) do
      if bodies[i] then
        found[#found + 1] = id
        envelopes[#envelopes + 1] = bodies[i]
      else
        redis.call('ZREM', leases, id)
      end
    end
    if #found > 0 and redis.call('EXISTS', failures) == 1 then
      for i, counted in ipairs(redis.call('HMGET', failures, unpack(found))) do
        failed[i] = counted and tonumber(string.match(counted, '^%d+')) or 0
      end
    end
  end
  return found, failed, envelopes
end

local known = last_turn()
if known[1] > number then
  return {-1, now, -1, 0, {}, {}, {}, {}}
elseif known[1] == number then
  local still_ours = {}
  for _, id in ipairs(known[6]) do
    if tonumber(redis.call('ZSCORE', leases, id)) == known[3] + lease then
      still_ours[#still_ours + 1] = id
    end
  end
  local ids, failed, envelopes = fetch(still_ours)
  return {known[2], known[3], 0, known[4], known[5], ids, failed, envelopes}
end

local lost = {}

local function ours(id, deadline)
  if tonumber(redis.call('ZSCORE', leases, id)) == tonumber(deadline) then
    return true
  end
  lost[#lost + 1] = id .. ':' .. deadline
  return false
end

local done = {}
for id, deadline in string.gmatch(acks, '(%d+):(%d+)') do
  if ours(id, deadline) then
    done[#done + 1] = id
  end
end
if #done > 0 then
  redis.call('ZREM', leases, unpack(done))
  if redis.call('EXISTS', keyed) == 1 then
    for i, envelope in ipairs(redis.call('HMGET', messages, unpack(done))) do
      leave(done[i], facts(envelope or '\n'))
    end
  end
  redis.call('HDEL', messages, unpack(done))
  if redis.call('EXISTS', failures) == 1 then
    redis.call('HDEL', failures, unpack(done))
  end
  redis.call('HINCRBY', counters, 'done', #done)
end

for id, deadline, longer in string.gmatch(extends, '(%d+):(%d+):(%d+)') do
  if ours(id, deadline) then
    redis.call('ZADD', leases, now + longer, id)
  end
end

for id, deadline in string.gmatch(releases, '(%d+):(%d+)') do
  if ours(id, deadline) then
    redis.call('ZREM', leases, id)
    put_back(id, facts(redis.call('HGET', messages, id) or '\n'))
  end
end

local buried = 0
local postponed = false
for _, nack in ipairs(nacks ~= '' and cjson.decode(nacks) or {}) do
  local id, delay = nack[1], nack[3]
  if ours(id, digits(nack[2])) then
    redis.call('ZREM', leases, id)
    local about = facts(redis.call('HGET', messages, id) or '\n')
    local failed = fail(id, nack[4])
    if delay < 0 or (most > 0 and failed >= most) then
      bury(id, about, keep == '1')
      buried = buried + 1
    elseif delay > 0 then
      redis.call('ZADD', delayed, now + delay, id)
      postponed = true
    else
      put_back(id, about)
    end
    redis.call('HINCRBY', counters, 'failed', 1)
  end
end

local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, EXPIRED)
for _, id in ipairs(expired) do
  redis.call('ZREM', leases, id)
  local envelope = redis.call('HGET', messages, id)
  if envelope then
    if fail(id, 'the lease expired') >= most and most > 0 then
      bury(id, facts(envelope), keep == '1')
      buried = buried + 1
    else
      put_back(id, facts(envelope))
    end
    redis.call('HINCRBY', counters, 'expired', 1)
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, DUE)) do
  redis.call('ZREM', delayed, id)
  local envelope = redis.call('HGET', messages, id)
  if envelope then
    local about = facts(envelope)
    about.delay, about.at = nil, nil
    resume(id, about)
  end
end

local state = redis.call('EXISTS', paused)
local taken = {}
if want > 0 and state == 0 then
  local popped = redis.call('ZPOPMIN', ready, want)
  local deadlines = {}
  for i = 1, #popped, 2 do
    taken[#taken + 1] = popped[i]
    deadlines[i] = now + lease
    deadlines[i + 1] = popped[i]
  end
  if #taken > 0 then
    redis.call('ZADD', leases, unpack(deadlines))
  end
end
local ids, failed, envelopes = fetch(taken)

local sleep = -1
if #ids < want then
  if address ~= '' then
    redis.call('ZADD', consumers, now + patience, address)
    redis.call('PEXPIRE', consumers, math.ceil(patience / 1000))
  end
  local due = state == 0 and redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  local expiry = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
  local soonest = math.min(tonumber(due or math.huge), tonumber(expiry or math.huge))
  if soonest < math.huge then
    sleep = math.max(0, soonest - now)
  end
else
  if address ~= '' then
    redis.call('ZREM', consumers, address)
  end
  -- This consumer will not look when what it has postponed is due: somebody who waits has to know of it.
  if state == 0 and (postponed or redis.call('EXISTS', ready) == 1) then
    wake_consumer()
  end
end
if #done > 0 or buried > 0 then
  wake_producer()
end

remember({number, state, now, #expired, lost, ids})
return {state, now, sleep, #expired, lost, ids, failed, envelopes}
