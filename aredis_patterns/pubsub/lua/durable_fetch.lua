-- Hands messages of a durable subscription to one consumer, for as long as `ack_wait`.
--
-- First those that are due again (their consumer died, was too slow, or gave them back), then new ones. Nobody else
-- sweeps: whoever fetches does. A request that comes twice (its reply was lost) gets the same messages again.
-- Deliveries are counted only when a message comes again; the count is what a settlement has to name.
--
-- KEYS[1] stream          stream  <ns>:topic:{<name>}                        the messages
-- KEYS[2] state           hash    <ns>:topic:{<name>}:to:<durable>           cursor, number of the newest handed out
-- KEYS[3] leases          zset    <ns>:topic:{<name>}:to:<durable>:leases    id, score: due again at, in ms
-- KEYS[4] order           zset    <ns>:topic:{<name>}:to:<durable>:order     id, score: number
-- KEYS[5] attempts        hash    <ns>:topic:{<name>}:to:<durable>:attempts  id -> deliveries, where not one
-- KEYS[6] dead            stream  <ns>:topic:{<name>}:to:<durable>:dead      given up: n, a attempts, r reason, d data
-- KEYS[7] last            string  <ns>:topic:{<name>}:to:<durable>:by:<id>   what this consumer got last
-- KEYS[8] durables        zset    <ns>:topic:{<name>}:durables               durables, score: expires at, in ms
-- KEYS[9] floors          hash    <ns>:topic:{<name>}:floors                 durable -> number, below needs nothing
-- ARGV[1] name            text    of the durable
-- ARGV[2] request         units   counted by the consumer
-- ARGV[3] count           units   most messages; 0: only say that somebody is there
-- ARGV[4] ack_wait        ms      until they are due again
-- ARGV[5] max_deliveries  units   then a message is given up; 0: never
-- ARGV[6] max_unacked     units   most messages that are handed out at a time, to all consumers
-- ARGV[7] inactive_after  ms      life of the subscription when nobody fetches
-- ARGV[8] create          0|1     1: begin at `cursor` if there is no such subscription
-- ARGV[9] cursor          text    id behind which to begin
-- ARGV[10] number         units   of that message
-- RETURN[1] status        0|1     0: there is no such subscription (it expired, or all was flushed)
-- RETURN[2] missed        units   trimmed before anybody got them; -1: the numbers began anew
-- RETURN[3] given_up      units   messages that went to the dead letters now
-- RETURN[4] next_due      ms      until a message is due again; -1: none is out
-- RETURN[5] batch         list    of {id, number, attempt, data}
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local stream = KEYS[1]
local state = KEYS[2]
local leases = KEYS[3]
local order = KEYS[4]
local attempts = KEYS[5]
local dead = KEYS[6]
local last = KEYS[7]
local durables = KEYS[8]
local floors = KEYS[9]
local name = ARGV[1]
local request = ARGV[2]
local count = tonumber(ARGV[3])
local ack_wait = tonumber(ARGV[4])
local max_deliveries = tonumber(ARGV[5])
local max_unacked = tonumber(ARGV[6])
local inactive_after = tonumber(ARGV[7])
local create = tonumber(ARGV[8])
local cursor = ARGV[9]
local number = tonumber(ARGV[10])

local MOST_DEAD = 1000

local function digits(value)
  return string.format('%.0f', value)
end

local function field(entry, wanted)
  for at = 1, #entry[2], 2 do
    if entry[2][at] == wanted then
      return entry[2][at + 1]
    end
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local missed, given_up, batch, handed_out = 0, 0, {}, {}

local function forget(id)
  redis.call('ZREM', leases, id)
  redis.call('ZREM', order, id)
  redis.call('HDEL', attempts, id)
end

local function hand_out(entry, its_number, attempt)
  batch[#batch + 1] = {entry[1], its_number, attempt, field(entry, 'd') or ''}
  handed_out[#handed_out + 1] = entry[1] .. ' ' .. digits(its_number) .. ' ' .. attempt
end

local function same_again(record)
  local told
  told, record = string.match(record, '^%d+ (%S+) ?(.*)$')
  missed = tonumber(told)
  for id, its_number, attempt in string.gmatch(record, '(%S+) (%d+) (%d+)') do
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
      hand_out(entry, tonumber(its_number), tonumber(attempt))
    end
  end
end

local function due_again()
  local due = redis.call('ZRANGE', leases, '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, count)
  for _, id in ipairs(due) do
    local entry = redis.call('XRANGE', stream, id, id)[1]
    local attempt = tonumber(redis.call('HGET', attempts, id) or 1)
    local its_number = tonumber(redis.call('ZSCORE', order, id) or 0)
    if not entry then
      missed = missed + 1
      forget(id)
    elseif max_deliveries > 0 and attempt >= max_deliveries then
      given_up = given_up + 1
      redis.call('XADD', dead, 'MAXLEN', '~', MOST_DEAD, '*', 'n', digits(its_number), 'a', attempt,
        'r', 'max_deliveries', 'd', field(entry, 'd') or '')
      forget(id)
    else
      redis.call('ZADD', leases, digits(now + ack_wait), id)
      redis.call('HSET', attempts, id, attempt + 1)
      hand_out(entry, its_number, attempt + 1)
    end
  end
end

local function new_ones()
  local room = math.min(count - #batch, max_unacked - redis.call('ZCARD', leases))
  if room <= 0 then
    return
  end
  local reset = false
  for _, entry in ipairs(redis.call('XRANGE', stream, '(' .. cursor, '+', 'COUNT', room)) do
    local its_number = tonumber(field(entry, 'n') or number + 1)
    if its_number <= number then
      reset = true
    else
      missed = missed + its_number - number - 1
    end
    redis.call('ZADD', leases, digits(now + ack_wait), entry[1])
    redis.call('ZADD', order, digits(its_number), entry[1])
    hand_out(entry, its_number, 1)
    cursor, number = entry[1], its_number
  end
  redis.call('HSET', state, 'cursor', cursor, 'number', digits(number))
  if reset then
    missed = -1
  end
end

local known = redis.call('HMGET', state, 'cursor', 'number')
local status = (known[1] or create == 1) and 1 or 0
local next_due = -1
if status == 1 then
  if known[1] then
    cursor, number = known[1], tonumber(known[2])
  else
    redis.call('HSET', state, 'cursor', cursor, 'number', digits(number))
  end
  local record = redis.call('GET', last)
  if record and string.match(record, '^%d+') == request then
    same_again(record)
  elseif count > 0 then
    due_again()
    new_ones()
    if #batch > 0 or missed ~= 0 then
      record = request .. ' ' .. digits(missed) .. ' ' .. table.concat(handed_out, ' ')
      redis.call('SET', last, record, 'PX', digits(ack_wait))
    end
  end

  local earliest = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
  next_due = earliest and math.max(0, tonumber(earliest) - now) or -1
  local lowest = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')[2]
  -- Those that nobody came back to are forgotten, a few at a time: names may be new ones every day.
  for _, gone in ipairs(redis.call('ZRANGE', durables, '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, 8)) do
    redis.call('ZREM', durables, gone)
    redis.call('HDEL', floors, gone)
  end
  redis.call('HSET', floors, name, digits(lowest or number + 1))
  redis.call('ZADD', durables, digits(now + inactive_after), name)
  redis.call('PEXPIRE', floors, digits(inactive_after), 'NX')
  redis.call('PEXPIRE', floors, digits(inactive_after), 'GT')
  redis.call('PEXPIRE', durables, digits(inactive_after), 'NX')
  redis.call('PEXPIRE', durables, digits(inactive_after), 'GT')
  redis.call('PEXPIRE', state, digits(inactive_after))
  redis.call('PEXPIRE', leases, digits(inactive_after))
  redis.call('PEXPIRE', order, digits(inactive_after))
  redis.call('PEXPIRE', attempts, digits(inactive_after))
  redis.call('PEXPIRE', dead, digits(inactive_after))
end
return {status, missed, given_up, next_due, batch}
