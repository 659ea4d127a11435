-- Changes when messages of a durable subscription are due again: given back, given back later, or kept longer.
--
-- Only the consumer of the last delivery may: it names the attempt. `uncounted` takes the delivery back, for messages
-- that nobody has looked at. A second execution finds the message where the first has put it.
--
-- KEYS[1] state       hash    <ns>:topic:{<name>}:to:<durable>           its life is that of the others
-- KEYS[2] leases      zset    <ns>:topic:{<name>}:to:<durable>:leases    id, score: due again at, in ms
-- KEYS[3] attempts    hash    <ns>:topic:{<name>}:to:<durable>:attempts  id -> deliveries, where not one
-- KEYS[4] order       zset    <ns>:topic:{<name>}:to:<durable>:order     id, score: number
-- KEYS[5] dead        stream  <ns>:topic:{<name>}:to:<durable>:dead      given up
-- KEYS[6] floors      hash    <ns>:topic:{<name>}:floors                 durable -> number, below needs nothing
-- KEYS[7] durables    zset    <ns>:topic:{<name>}:durables               durables, score: expires at, in ms
-- ARGV[1] settled     text    "<id> <attempt> <id> <attempt> ..."
-- ARGV[2] delay       ms      until they are due again
-- ARGV[3] uncounted   0|1     1: as if they had not been delivered
-- ARGV[4] wake        0|1     1: tell the others that something is to be had
-- ARGV[5] channel     text    where to tell them
-- ARGV[6] sharded     0|1     1: SPUBLISH
-- ARGV[7] name        text    of the durable
-- ARGV[8] inactive_after  ms  life of the subscription when nobody is there; whoever keeps a message is
-- RETURN[1] codes     list    0 another consumer has it, 1 done, 2 it is settled
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local state = KEYS[1]
local leases = KEYS[2]
local attempts = KEYS[3]
local order = KEYS[4]
local dead = KEYS[5]
local floors = KEYS[6]
local durables = KEYS[7]
local settled = ARGV[1]
local delay = tonumber(ARGV[2])
local uncounted = tonumber(ARGV[3])
local wake = tonumber(ARGV[4])
local channel = ARGV[5]
local sharded = tonumber(ARGV[6])
local name = ARGV[7]
local inactive_after = tonumber(ARGV[8])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = now + delay
local codes, any = {}, false
for id, attempt in string.gmatch(settled, '(%S+) (%d+)') do
  local code = 2
  if redis.call('ZSCORE', leases, id) then
    local current = tonumber(redis.call('HGET', attempts, id) or 1)
    local before = tonumber(attempt) - uncounted
    code = (current == tonumber(attempt) or current == before) and 1 or 0
    if code == 1 then
      any = true
      redis.call('ZADD', leases, string.format('%.0f', due), id)
      if uncounted == 1 then
        redis.call('HSET', attempts, id, before)
      end
    end
  end
  codes[#codes + 1] = code
end

if any and uncounted == 1 then
  redis.call('PEXPIRE', attempts, redis.call('PTTL', state))
elseif any then
  redis.call('ZADD', durables, 'XX', string.format('%.0f', now + inactive_after), name)
  redis.call('PEXPIRE', state, inactive_after)
  redis.call('PEXPIRE', leases, inactive_after)
  redis.call('PEXPIRE', order, inactive_after)
  redis.call('PEXPIRE', attempts, inactive_after)
  redis.call('PEXPIRE', dead, inactive_after)
  redis.call('PEXPIRE', floors, inactive_after, 'GT')
  redis.call('PEXPIRE', durables, inactive_after, 'GT')
end
if any and wake == 1 then
  redis.pcall(sharded == 1 and 'SPUBLISH' or 'PUBLISH', channel, '')
end
return {codes}
