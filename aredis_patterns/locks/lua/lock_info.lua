-- Who holds a lock, for how long, and how many wait.
--
-- KEYS[1] lock         string  <ns>:lock:{<key>}         "<fence>\n<token>\n<inbox>\n<owner>"
-- KEYS[2] queue        zset    <ns>:lock:{<key>}:queue   those who wait
-- RETURN[1] number     fence   of the holder; 0 reserved for a waiter, -1 free, -2 not a lock of ours
-- RETURN[2] owner      text    what the holder calls itself
-- RETURN[3] left       ms      life of the lock; -1 no end
-- RETURN[4] waiting    count   entries in the queue: one per process, or per task of a fair lock
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local lock = KEYS[1]
local queue = KEYS[2]

local held = redis.call('GET', lock)
local number, owner = '-1', ''
if held then
  number, owner = string.match(held, '^(%d+)\n[^\n]*\n[^\n]*\n(.*)$')
end
return {tonumber(number or -2), owner or '', redis.call('PTTL', lock), redis.call('ZCARD', queue)}
