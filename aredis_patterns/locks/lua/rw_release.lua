-- Ends what a token has of a read-write lock: its part, a reservation, its place in the queue. Then wakes the next.
--
-- After a writer all queued readers, after the last reader the first writer; if it is not known who was in (they died),
-- whoever waits longest. Whoever is woken has its part reserved for a short while, and takes it up with its next call.
-- A waiter whose process has gone hears nothing; that shows in the answer of PUBLISH (not in a Cluster).
--
-- With an empty token it only looks whether somebody should be woken. Doing it twice wakes nobody twice.
--
-- KEYS[1] held         zset    <ns>:rwlock:{<key>}           member "<r|w>:<token>", score end in us
-- KEYS[2] readers      zset    <ns>:rwlock:{<key>}:readers   member "<token>\n<inbox>", score ticket
-- KEYS[3] writers      zset    <ns>:rwlock:{<key>}:writers   member "<token>\n<inbox>", score ticket
-- ARGV[1] token        text    whose claims end; empty: nobody's
-- ARGV[2] kind         r|w     what it was in for, or waits for
-- ARGV[3] member       text    its entry in the queue; empty: it has none
-- ARGV[4] countable    0|1     whether the answer of PUBLISH can be believed
-- ARGV[5] reserve      ms      life of a reservation
-- RETURN[1] released   0|1     whether the token was in
-- RETURN[2] waiting    count   entries left in both queues
-- RETURN[3] again      ms      when to look again if nothing else happens; 0 when nobody waits, -1 no end
-- READ-ONLY no
-- REPLAY-SAFE no
--
local held = KEYS[1]
local readers = KEYS[2]
local writers = KEYS[3]
local token = ARGV[1]
local kind = ARGV[2]
local member = ARGV[3]
local countable = ARGV[4]
local reserve = tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', held, '-inf', string.format('%.0f', now))

local released = 0
if token ~= '' then
  released = redis.call('ZREM', held, kind .. ':' .. token)
end

local function leave(line)
  if member ~= '' then
    redis.call('ZREM', line, member)
  end
end
leave(kind == 'r' and readers or writers)

-- Reserve for the first `most` of a queue who are there; how many those are.
local function admit(line, part, most)
  local admitted = 0
  while admitted < most do
    local head = redis.call('ZPOPMIN', line)[1]
    if not head then
      break
    end
    local waiter, inbox = string.match(head, '^([^\n]*)\n(.*)$')
    if redis.call('PUBLISH', inbox, waiter .. '\nfree') > 0 or countable == '0' then
      redis.call('ZADD', held, string.format('%.0f', now + reserve * 1000), part .. ':' .. waiter)
      admitted = admitted + 1
    end
  end
  return admitted
end

local inside = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
local admitted = 0
if not inside[1] then
  local writer = redis.call('ZRANGE', writers, 0, 0, 'WITHSCORES')[2]
  local reader = redis.call('ZRANGE', readers, 0, 0, 'WITHSCORES')[2]
  local readers_first = kind == 'w'
  if released == 0 then
    readers_first = tonumber(reader or math.huge) < tonumber(writer or math.huge)
  end
  if readers_first then
    admitted = admit(readers, 'r', math.huge)
  end
  if admitted == 0 then
    admitted = admit(writers, 'w', 1)
  end
  if admitted == 0 then
    admitted = admit(readers, 'r', math.huge)
  end
elseif string.sub(inside[1], 1, 1) == 'r' and redis.call('ZCARD', writers) == 0 then
  admitted = admit(readers, 'r', math.huge)
end
if admitted > 0 and redis.call('PTTL', held) < reserve then
  redis.call('PEXPIRE', held, reserve)
end

redis.call('PEXPIRE', readers, 60000) -- those who wait are still there
redis.call('PEXPIRE', writers, 60000)
local waiting, again = redis.call('ZCARD', readers) + redis.call('ZCARD', writers), 0
if admitted > 0 then
  again = reserve
elseif waiting > 0 then
  again = inside[2] and math.max(1, math.ceil((tonumber(inside[2]) - now) / 1000)) or -1
end
return {released, waiting, again}
