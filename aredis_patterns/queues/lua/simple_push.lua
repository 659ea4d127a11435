-- Appends items to a list and wakes somebody who waits for them.
--
-- KEYS[1] items      list    <ns>:list:{<queue>}            oldest first
-- KEYS[2] consumers  zset    <ns>:list:{<queue>}:consumers  address of who waits, by its expiry (us)
-- KEYS[3] answer     string  <ns>:list:{<queue>}:<turn>     number and answer of the last turn of this caller
-- ARGV[1] number     count   of this turn of this caller
-- ARGV[2..] values   bytes   the items
-- RETURN[1] length   count   of the list; -1 when the turn is out of date
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local items = KEYS[1]
local consumers = KEYS[2]
local answer = KEYS[3]
local number = tonumber(ARGV[1])
local values = {unpack(ARGV, 2)}
local REPLAY = 3600000

local known = cmsgpack.unpack(redis.call('GET', answer) or cmsgpack.pack({0}))
if known[1] == number then
  return {known[2]}
elseif known[1] > number then
  return {-1}
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local length = redis.call('RPUSH', items, unpack(values))
for _ = 1, 3 do
  local waiting = redis.call('ZPOPMIN', consumers)
  if not waiting[1] then
    break
  end
  local channel, waiter = string.match(waiting[1], '^(.+) (%S+)$')
  local receivers = tonumber(waiting[2]) >= now and redis.pcall('PUBLISH', channel, waiter .. '\n')
  if type(receivers) == 'table' or (receivers and receivers > 0) then
    break
  end
end
redis.call('SET', answer, cmsgpack.pack({number, length}), 'PX', REPLAY)
return {length}
