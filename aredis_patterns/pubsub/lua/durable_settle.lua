-- Ends messages of a durable subscription: acknowledged, or given up with a reason.
--
-- Only the consumer of the last delivery may: it names the attempt. A message that is settled already stays settled, so
-- a second execution answers "settled before", which is as good.
--
-- KEYS[1] stream          stream  <ns>:topic:{<name>}                        the messages
-- KEYS[2] state           hash    <ns>:topic:{<name>}:to:<durable>           number of the newest handed out
-- KEYS[3] leases          zset    <ns>:topic:{<name>}:to:<durable>:leases    id, score: due again at, in ms
-- KEYS[4] order           zset    <ns>:topic:{<name>}:to:<durable>:order     id, score: number
-- KEYS[5] attempts        hash    <ns>:topic:{<name>}:to:<durable>:attempts  id -> deliveries, where not one
-- KEYS[6] dead            stream  <ns>:topic:{<name>}:to:<durable>:dead      given up: n, a attempts, r reason, d data
-- KEYS[7] floors          hash    <ns>:topic:{<name>}:floors                 durable -> number, below needs nothing
-- KEYS[8] durables        zset    <ns>:topic:{<name>}:durables               durables, score: expires at, in ms
-- ARGV[1] name            text    of the durable
-- ARGV[2] settled         text    "<id> <attempt> <id> <attempt> ..."
-- ARGV[3] reason          text    why they are given up; empty: they are acknowledged
-- ARGV[4] max_unacked     units   consumers that wait because so many are out are woken
-- ARGV[5] channel         text    where to wake them
-- ARGV[6] sharded         0|1     1: SPUBLISH
-- ARGV[7] inactive_after  ms      whoever settles is there: the subscription lives on, although nobody fetches
-- RETURN[1] codes         list    0 another consumer has it, 1 settled, 2 settled before
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local stream = KEYS[1]
local state = KEYS[2]
local leases = KEYS[3]
local order = KEYS[4]
local attempts = KEYS[5]
local dead = KEYS[6]
local floors = KEYS[7]
local durables = KEYS[8]
local name = ARGV[1]
local settled = ARGV[2]
local reason = ARGV[3]
local max_unacked = tonumber(ARGV[4])
local channel = ARGV[5]
local sharded = tonumber(ARGV[6])
local inactive_after = tonumber(ARGV[7])

local MOST_DEAD = 1000

local function give_up(id, attempt)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  local body = ''
  for at = 1, entry and #entry[2] or 0, 2 do
    if entry[2][at] == 'd' then
      body = entry[2][at + 1]
    end
  end
  redis.call('XADD', dead, 'MAXLEN', '~', MOST_DEAD, '*', 'n', redis.call('ZSCORE', order, id) or 0, 'a', attempt,
    'r', reason, 'd', body)
  redis.call('PEXPIRE', dead, redis.call('PTTL', state))
end

local was_full = redis.call('ZCARD', leases) >= max_unacked
local codes, any = {}, false
for id, attempt in string.gmatch(settled, '(%S+) (%d+)') do
  local code = 2
  if redis.call('ZSCORE', leases, id) then
    code = (redis.call('HGET', attempts, id) or '1') == attempt and 1 or 0
  end
  if code == 1 then
    any = true
    if reason ~= '' then
      give_up(id, attempt)
    end
    redis.call('ZREM', leases, id)
    redis.call('ZREM', order, id)
    redis.call('HDEL', attempts, id)
  end
  codes[#codes + 1] = code
end

if any then
  local number = redis.call('HGET', state, 'number')
  local lowest = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')[2]
  if redis.call('HEXISTS', floors, name) == 1 and (lowest or number) then
    redis.call('HSET', floors, name, string.format('%.0f', lowest or number + 1))
  end
  if redis.call('PTTL', state) < inactive_after / 2 then
    local time = redis.call('TIME')
    local expires = time[1] * 1000 + math.floor(time[2] / 1000) + inactive_after
    redis.call('ZADD', durables, 'XX', string.format('%.0f', expires), name)
    redis.call('PEXPIRE', state, inactive_after)
    redis.call('PEXPIRE', leases, inactive_after)
    redis.call('PEXPIRE', order, inactive_after)
    redis.call('PEXPIRE', attempts, inactive_after)
    redis.call('PEXPIRE', dead, inactive_after)
    redis.call('PEXPIRE', floors, inactive_after, 'GT')
    redis.call('PEXPIRE', durables, inactive_after, 'GT')
  end
  if was_full then
    redis.pcall(sharded == 1 and 'SPUBLISH' or 'PUBLISH', channel, '')
  end
end
return {codes}
