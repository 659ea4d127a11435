-- Takes in batches of messages, each batch whole or not at all.
--
-- Producers count their turns. A turn that is sent again, because its reply was lost, is answered from memory; one that
-- arrives after its successor is ignored. Message i of the turn gets the id `first + i`, duplicates excepted.
--
-- INCLUDE _queue
-- ARGV[1] number      count   of this turn of this producer
-- ARGV[2] most        count   of unfinished messages that the queue may hold; 0 without bound
-- ARGV[3] window      us      in which a dedup key stands for the first message that had it
-- ARGV[4] address     text    whom to wake when there is room after a refusal; empty for nobody
-- ARGV[5] patience    us      until that address is forgotten
-- ARGV[6] sizes       counts  messages in each batch, with commas
-- ARGV[7..] envelopes bytes   one line of facts, then the body
-- RETURN[1] first     us      id of the first message; -1 when the turn is out of date
-- RETURN[2] refused   counts  the batches that found no room, counted from 0
-- RETURN[3] free      count   room that is left; -1 without bound
-- RETURN[4] twins     pairs   position of a duplicate, counted from 0, and the id it stands for
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local number = tonumber(ARGV[1])
local most = tonumber(ARGV[2])
local window = tonumber(ARGV[3])
local address = ARGV[4]
local patience = tonumber(ARGV[5])
local sizes = ARGV[6]
local envelopes = {unpack(ARGV, 7)}

local known = last_turn()
if known[1] == number then
  return {known[2], known[3], known[4], known[5]}
elseif known[1] > number then
  return {-1, {}, -1, {}}
end

local first = math.max(now, (tonumber(redis.call('HGET', counters, 'last')) or 0) + 1)
local free = -1
if most > 0 then
  free = math.max(0, most - redis.call('HLEN', messages) + redis.call('ZCARD', dead))
end

local bodies, plain, special, refused, twins = {}, {}, {}, {}, {}
local accepted = 0
local position = 0

local function twin_of(key)
  redis.call('ZREMRANGEBYSCORE', dedup, '-inf', now - window)
  return redis.call('ZSCORE', dedup, key)
end

local function accept(envelope)
  local id = digits(first + position)
  if string.byte(envelope) == 10 then
    plain[#plain + 1] = id
  else
    local about = facts(envelope)
    if about.dedup then
      local twin = twin_of(about.dedup)
      if twin then
        twins[#twins + 1] = position
        twins[#twins + 1] = tonumber(twin)
        return
      end
      redis.call('ZADD', dedup, id, about.dedup)
      redis.call('PEXPIRE', dedup, math.ceil(window / 1000))
    end
    special[#special + 1] = {id, about}
  end
  accepted = accepted + 1
  bodies[#bodies + 1] = id
  bodies[#bodies + 1] = envelope
end

local batch = 0
for size in string.gmatch(sizes, '%d+') do
  local fits = free < 0 or free >= tonumber(size)
  if not fits then
    refused[#refused + 1] = batch
  end
  local before = accepted
  for _ = 1, tonumber(size) do
    if fits then
      accept(envelopes[position + 1])
    end
    position = position + 1
  end
  if free > 0 then
    free = free - (accepted - before)
  end
  batch = batch + 1
end

if accepted > 0 then
  redis.call('HSET', messages, unpack(bodies))
  if #plain > 0 then
    local round = (front(0) or 0) + 1
    local members = {}
    for i, id in ipairs(plain) do
      members[2 * i - 1] = round
      members[2 * i] = id
    end
    redis.call('ZADD', ready, unpack(members))
  end
  for _, message in ipairs(special) do
    admit(message[1], message[2])
  end
  redis.call('HSET', counters, 'last', digits(first + position - 1))
  redis.call('HINCRBY', counters, 'enqueued', accepted)
  wake_consumer()
end
if #refused > 0 then
  if address ~= '' then
    redis.call('ZADD', producers, now + patience, address)
    redis.call('PEXPIRE', producers, math.ceil(patience / 1000))
  end
elseif free > 0 then
  wake_producer()
end
remember({number, first, refused, free, twins})
return {first, refused, free, twins}
