-- Where to begin to read a topic.
--
-- The position is an id and the number of the message there, so that the reader knows by the next number whether some
-- were trimmed in between. Where the id has gone, nobody can say how many followed it.
--
-- KEYS[1] stream        stream   <ns>:topic:{<name>}         the messages
-- KEYS[2] counter       string   <ns>:topic:{<name>}:count   number of the newest message
-- ARGV[1] kind          text     new, all, last (value: how many), id (value: one), time (value: ms)
-- ARGV[2] value         text     see kind
-- RETURN[1] id          text     read from here
-- RETURN[2] inclusive   0|1      1: with this message, 0: behind it
-- RETURN[3] number      units    of the last message that is not to be read
-- RETURN[4] whole       0|1      0: messages behind the given id were trimmed, or may have been
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local stream = KEYS[1]
local counter = KEYS[2]
local kind = ARGV[1]
local value = ARGV[2]

local count = tonumber(redis.call('GET', counter) or 0)

local function number_of(entry)
  return entry[2][1] == 'n' and tonumber(entry[2][2]) or 0
end

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local from, exact, whole
if kind == 'all' then
  from = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
elseif kind == 'last' then
  local entries = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', tonumber(value))
  from = entries[#entries]
elseif kind == 'time' then
  from = redis.call('XRANGE', stream, value, '+', 'COUNT', 1)[1]
elseif kind == 'id' then
  exact = redis.call('XRANGE', stream, value, value)[1]
  from = not exact and redis.call('XRANGE', stream, '(' .. value, '+', 'COUNT', 1)[1]
  -- A message at or before the id is still there: then nothing behind it has been trimmed.
  whole = redis.call('XREVRANGE', stream, value, '-', 'COUNT', 1)[1] or number_of(from or {0, {}}) == 1 or count == 0
end

local id, inclusive, number = '0-0', 0, count
if exact then
  id, number = value, number_of(exact)
elseif from then
  id, inclusive, number = from[1], 1, number_of(from) - 1
elseif newest then
  id, number = newest[1], number_of(newest)
end
return {id, inclusive, math.max(0, number), (kind ~= 'id' or whole) and 1 or 0}
