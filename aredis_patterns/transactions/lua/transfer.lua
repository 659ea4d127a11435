-- Moves an amount between two integer balances, once per operation, or refuses.
--
-- Balances are compared as decimal strings, so the whole range of a Redis integer is exact (a Lua number is not, beyond
-- 2^53). The destination comes first: if it would overflow, INCRBY raises before anything was written.
--
-- KEYS[1] source        string  <user's key>                    an integer; missing is 0
-- KEYS[2] destination   string  <user's key>                    an integer; missing is 0
-- KEYS[3] marker        string  <ns>:tx:{<tag>}:transfer:<id>   the answer of this operation, for a second run
-- ARGV[1] amount        units   a positive integer
-- ARGV[2] remember      ms      how long the marker lives
-- RETURN[1] status      code    1 done, 0 insufficient funds, -1 the source is no integer, -2 the destination is none
-- RETURN[2] source      units   its balance after this, as text
-- RETURN[3] destination units   its balance after this, as text
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local source = KEYS[1]
local destination = KEYS[2]
local marker = KEYS[3]
local amount = ARGV[1]
local remember = ARGV[2]

local done_source, done_destination = string.match(redis.call('GET', marker) or '', '^(%-?%d+):(%-?%d+)$')
if done_source then
  return {1, done_source, done_destination}
end

-- Of 64 bits, as INCRBY wants it: a number beyond would be refused only after the other side was written.
local function is_integer(text)
  if text == '0' then
    return true
  end
  local minus, digits = string.match(text, '^(%-?)([1-9]%d*)$')
  local largest = minus == '-' and '9223372036854775808' or '9223372036854775807'
  return digits ~= nil and (#digits < #largest or (#digits == #largest and digits <= largest))
end

local has = redis.call('GET', source) or '0'
local other = redis.call('GET', destination) or '0'
if not is_integer(has) then
  return {-1, has, other}
end
if not is_integer(other) then
  return {-2, has, other}
end
local negative = string.sub(has, 1, 1) == '-'
if negative or #has < #amount or (#has == #amount and has < amount) then
  return {0, has, other}
end

redis.call('INCRBY', destination, amount)
redis.call('DECRBY', source, amount)
has, other = redis.call('GET', source), redis.call('GET', destination)
redis.call('SET', marker, has .. ':' .. other, 'PX', remember)
return {1, has, other}
