-- Counts one participant of a latch, once; the last one opens it and wakes all who wait.
--
-- KEYS[1] arrived      set     <ns>:latch:{<key>}         participants that have arrived
-- KEYS[2] queue        zset    <ns>:latch:{<key>}:queue   member "<token>\n<inbox>", score 0
-- ARGV[1] participant  text    who arrives; empty: nobody, only look
-- ARGV[2] count        count   participants needed
-- ARGV[3] ttl          ms      life of the latch, from the last arrival
-- ARGV[4] member       text    entry of one who waits; empty: nobody
-- RETURN[1] remaining  count   still missing; 0: it is open
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local arrived = KEYS[1]
local queue = KEYS[2]
local participant = ARGV[1]
local count = tonumber(ARGV[2])
local ttl = ARGV[3]
local member = ARGV[4]

if participant ~= '' then
  redis.call('SADD', arrived, participant)
  redis.call('PEXPIRE', arrived, ttl)
end
local remaining = math.max(0, count - redis.call('SCARD', arrived))
if remaining > 0 then
  if member ~= '' then
    redis.call('ZADD', queue, 0, member)
    redis.call('PEXPIRE', queue, 60000)
  end
elseif participant ~= '' then
  for _, waiting in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    local waiter, inbox = string.match(waiting, '^([^\n]*)\n(.*)$')
    redis.call('PUBLISH', inbox, waiter .. '\nopen')
  end
  redis.call('DEL', queue)
end
return {remaining}
