-- Hands a held lock to another waiter of the same process, in one step and without a message.
--
-- KEYS[1] lock         string  <ns>:lock:{<key>}         "<fence>\n<token>\n<inbox>\n<owner>"
-- KEYS[2] fence        string  <ns>:lock:{<key>}:fence   the last fence given
-- KEYS[3] queue        zset    <ns>:lock:{<key>}:queue   where the heir may stand
-- ARGV[1] token        text    who holds it
-- ARGV[2] heir         text    token of who is to hold it
-- ARGV[3] member       text    the heir's entry in the queue
-- ARGV[4] ttl          ms      life of the new grant
-- ARGV[5] owner        text    of the heir, shown by info
-- ARGV[6] inbox        text    channel of the process; empty when it listens to none
-- RETURN[1] granted    0|1     whether the heir holds it; 0: the token did not
-- RETURN[2] number     fence   of the new grant; 0 without one
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local lock = KEYS[1]
local fence = KEYS[2]
local queue = KEYS[3]
local token = ARGV[1]
local heir = ARGV[2]
local member = ARGV[3]
local ttl = ARGV[4]
local owner = ARGV[5]
local inbox = ARGV[6]

local FENCE_TTL = 2592000000 -- 30 days

local number, holder = string.match(redis.call('GET', lock) or '', '^(%d+)\n([^\n]*)\n')
local granted = 0
if holder == token then
  local time = redis.call('TIME')
  number = time[1] * 1000000 + time[2]
  local digits = string.format('%.0f', number)
  local last = tonumber(redis.call('SET', fence, digits, 'PX', FENCE_TTL, 'GET') or 0) or 0
  if last >= number then
    number = last + 1
    digits = string.format('%.0f', number)
    redis.call('SET', fence, digits, 'PX', FENCE_TTL)
  end
  redis.call('SET', lock, digits .. '\n' .. heir .. '\n' .. inbox .. '\n' .. owner, 'PX', ttl)
  redis.call('ZREM', queue, member)
  granted = 1
elseif holder == heir and number ~= '0' then
  redis.call('PEXPIRE', lock, ttl)
  granted = 1
end
return {granted, granted == 1 and tonumber(number) or 0}
