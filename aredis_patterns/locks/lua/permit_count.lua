-- How many permits are out, and how many wait.
--
-- KEYS[1] held         zset    <ns>:permits:{<key>}         member "<token>:<n>", score end in us
-- KEYS[2] queue        zset    <ns>:permits:{<key>}:queue   those who wait
-- RETURN[1] used       count   permits that have not ended, reservations included
-- RETURN[2] waiting    count   entries in the queue
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local held = KEYS[1]
local queue = KEYS[2]

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
return {redis.call('ZCOUNT', held, '(' .. now, '+inf'), redis.call('ZCARD', queue)}
