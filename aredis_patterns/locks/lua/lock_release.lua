-- Ends what a token has of a lock: the lock, a reservation, its place in the queue. If it is free then, wakes the next.
--
-- One waiter is woken, with one message. To a fair waiter, and to any that has waited longer than `patience`, the lock
-- is reserved for a short while, so that nobody overtakes; it takes it up with its next call. If it does not, the
-- reservation ends and whoever looks next wakes the one after it. A waiter whose process has gone hears nothing; that
-- shows in the answer of PUBLISH (not in a Cluster, which answers for one node only).
--
-- With an empty token it only looks whether somebody should be woken, for one who waits: the queue lives on then.
-- Doing it twice wakes nobody twice: who was woken is no longer in the queue, and comes back with its old ticket if it
-- was in vain.
--
-- KEYS[1] lock         string  <ns>:lock:{<key>}         "<fence>\n<token>\n<inbox>\n<owner>"
-- KEYS[2] queue        zset    <ns>:lock:{<key>}:queue   member "<token>\n<f|u>\n<inbox>", score ticket
-- ARGV[1] token        text    whose claims end; empty: nobody's
-- ARGV[2] member       text    its entry in the queue; empty: it has none
-- ARGV[3] force        0|1     1: end the lock whoever has it, and tell the owner
-- ARGV[4] countable    0|1     whether the answer of PUBLISH can be believed
-- ARGV[5] patience     us      wait after which nobody may overtake any more
-- ARGV[6] reserve      ms      life of a reservation
-- RETURN[1] released   0|1     whether the lock was the token's (or anybody's, with force)
-- RETURN[2] waiting    count   entries left in the queue, if it was looked at
-- RETURN[3] again      ms      when to look again if nothing else happens: life of the lock or of the reservation;
--                              0 when nobody waits, -1 no end
-- READ-ONLY no
-- REPLAY-SAFE no
--
local lock = KEYS[1]
local queue = KEYS[2]
local token = ARGV[1]
local member = ARGV[2]
local force = ARGV[3]
local countable = ARGV[4]
local patience = tonumber(ARGV[5])
local reserve = tonumber(ARGV[6])

local held = redis.call('GET', lock)
local released, waiting, again = 0, 0, 0
if held then
  local number, holder, ear = string.match(held, '^(%d+)\n([^\n]*)\n([^\n]*)\n')
  if force == '1' or holder == token then
    redis.call('DEL', lock)
    released, held = 1, false
    if force == '1' and holder ~= token and ear and ear ~= '' and number ~= '0' then
      redis.call('PUBLISH', ear, holder .. '\nrevoked')
    end
  end
end
if member ~= '' then
  redis.call('ZREM', queue, member)
end

if held then
  if token == '' then
    waiting = redis.call('ZCARD', queue)
    redis.call('PEXPIRE', queue, 60000) -- those who wait are still there
    again = math.max(redis.call('PTTL', lock), -1)
  end
else
  local head = redis.call('ZPOPMIN', queue)
  while head[1] do
    local waiter, rule, inbox = string.match(head[1], '^([^\n]*)\n(.)\n(.*)$')
    local time = redis.call('TIME')
    local waited = time[1] * 1000000 + time[2] - tonumber(head[2])
    if redis.call('PUBLISH', inbox, waiter .. '\nfree') > 0 or countable == '0' then
      if rule == 'f' or waited > patience then
        redis.call('SET', lock, '0\n' .. waiter .. '\n' .. inbox .. '\n', 'PX', reserve)
      end
      waiting, again = redis.call('ZCARD', queue), reserve
      break
    end
    head = redis.call('ZPOPMIN', queue)
  end
end
return {released, waiting, again}
