-- Takes several locks for a token, all or none; if one is taken, puts the token into the queue of that one.
--
-- What is reserved for the token, or was granted to it by an earlier call with a lost reply, counts as free. All get
-- the same fence, larger than the last of each; a repeated call a newer one. Free locks are taken, as by `Lock`.
--
-- KEYS[1..] keys       triple  of each lock: <ns>:lock:{<key>} string, its :fence string, its :queue zset
-- ARGV[1] token        text    who wants them: one per attempt to acquire, never used again
-- ARGV[2] ttl          ms      life of the grants
-- ARGV[3] owner        text    shown by info
-- ARGV[4] inbox        text    channel of the process
-- ARGV[5] enqueue      0|1     wait in the queue of the first that is taken
-- ARGV[6] ticket       us      place in the queue from an earlier call; 0 at first
-- RETURN[1] granted    0|1     whether the token holds all
-- RETURN[2] number     fence   of this grant; 0 without one
-- RETURN[3] place      us      ticket to give with the next call
-- RETURN[4] again      ms      life of the one in the way; -1: no end
-- RETURN[5] blocker    index   of the one in the way, from 1; 0 when granted
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local keys = {unpack(KEYS, 1)}
local token = ARGV[1]
local ttl = ARGV[2]
local owner = ARGV[3]
local inbox = ARGV[4]
local enqueue = ARGV[5]
local ticket = tonumber(ARGV[6])

local FENCE_TTL = 2592000000 -- 30 days
local QUEUE_TTL = 60000 -- waiters come back every few seconds and renew it

local me = token .. '\nu\n' .. inbox
local time = redis.call('TIME')
local number, blocker = time[1] * 1000000 + time[2], 0
for i = 1, #keys, 3 do
  local lock, fence = keys[i], keys[i + 1]
  local held = redis.call('GET', lock)
  local holder = string.match(held or '', '^%d+\n([^\n]*)\n')
  if held and holder ~= token then
    blocker = (i + 2) / 3
    break
  end
  number = math.max(number, (tonumber(redis.call('GET', fence) or 0) or 0) + 1)
end

if blocker == 0 then
  local digits = string.format('%.0f', number)
  for i = 1, #keys, 3 do
    local lock, fence, queue = keys[i], keys[i + 1], keys[i + 2]
    redis.call('SET', fence, digits, 'PX', FENCE_TTL)
    redis.call('SET', lock, digits .. '\n' .. token .. '\n' .. inbox .. '\n' .. owner, 'PX', ttl)
    redis.call('ZREM', queue, me)
  end
  return {1, number, ticket, 0, 0}
end

local lock, queue = keys[3 * blocker - 2], keys[3 * blocker]
local place = ticket
if enqueue == '1' then
  if place == 0 then
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
    place = math.max(time[1] * 1000000 + time[2], tonumber(last[2] or 0) + 1)
  end
  redis.call('ZADD', queue, string.format('%.0f', place), me)
  redis.call('PEXPIRE', queue, QUEUE_TTL)
end
return {0, 0, place, math.max(redis.call('PTTL', lock), -1), blocker}
