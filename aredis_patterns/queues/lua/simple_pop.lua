-- Puts back what was not wanted after all, then takes items from a list; registers who gets less than it wants.
--
-- What was taken is remembered until the next turn, so that a lost reply does not lose items.
--
-- KEYS[1] items      list    <ns>:list:{<queue>}            oldest first
-- KEYS[2] consumers  zset    <ns>:list:{<queue>}:consumers  address of who waits, by its expiry (us)
-- KEYS[3] answer     string  <ns>:list:{<queue>}:<turn>     number and answer of the last turn of this caller
-- ARGV[1] number     count   of this turn of this caller
-- ARGV[2] want       count   of items
-- ARGV[3] address    text    whom to wake when there are fewer; empty for nobody
-- ARGV[4] patience   us      until that address is forgotten
-- ARGV[5..] returned bytes   items that nobody wanted, oldest first
-- RETURN[1] state    code    0 fine, -1 the turn is out of date
-- RETURN[2] values   bytes   the items
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local items = KEYS[1]
local consumers = KEYS[2]
local answer = KEYS[3]
local number = tonumber(ARGV[1])
local want = tonumber(ARGV[2])
local address = ARGV[3]
local patience = tonumber(ARGV[4])
local returned = {unpack(ARGV, 5)}
local REPLAY = 3600000

local known = cmsgpack.unpack(redis.call('GET', answer) or cmsgpack.pack({0}))
if known[1] == number then
  return {0, known[2]}
elseif known[1] > number then
  return {-1, {}}
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i = #returned, 1, -1 do
  redis.call('LPUSH', items, returned[i])
end
local values = want > 0 and redis.call('LPOP', items, want) or {}
if #values < want and address ~= '' then
  redis.call('ZADD', consumers, now + patience, address)
  redis.call('PEXPIRE', consumers, math.ceil(patience / 1000))
elseif address ~= '' then
  redis.call('ZREM', consumers, address)
end
if redis.call('EXISTS', items) == 1 then
  local waiting = redis.call('ZPOPMIN', consumers)
  local channel, waiter = string.match(waiting[1] or '', '^(.+) (%S+)$')
  if channel then
    redis.pcall('PUBLISH', channel, waiter .. '\n')
  end
end
redis.call('SET', answer, cmsgpack.pack({number, values}), 'PX', REPLAY)
return {0, values}
