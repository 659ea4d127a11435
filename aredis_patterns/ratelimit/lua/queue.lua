-- Gives each request its own time to go on, evenly apart, in the order of arrival; a full queue refuses.
-- INCLUDE _common
-- INCLUDE _backlog
--
-- The queue is the backlog of a leaky bucket: a request waits until what is before it has flowed out. A place can be
-- left again while nobody has come behind it; later it stays empty, because those behind have been told their times.
--
-- KEYS[1] state            string  <ns>:rl:leaky:<name>:{<key>}  see _backlog.lua
-- ARGV[1] limit            units   places in the queue
-- ARGV[2] a                parts   in a unit
-- ARGV[3] b                parts   flowing out per us
-- ARGV[4] cost             units   what this request needs
-- ARGV[5] patience         us      the longest that it would wait
-- ARGV[6] tail             us      0; else leave again: the fourth answer, told when the place was given
-- RETURN[1] allowed        0|1     whether there was a place
-- RETURN[2] remaining      units   places left
-- RETURN[3] wait           us      allowed: until it may go on; refused: until there is a place, -1 never
-- RETURN[4] reset_after    us      until the queue is empty
-- RETURN[5] tail           us      time of the server at which this request has flowed out
-- READ-ONLY no
-- REPLAY-SAFE no
--
local state = KEYS[1]
local limit = tonumber(ARGV[1])
local a = tonumber(ARGV[2])
local b = tonumber(ARGV[3])
local cost = tonumber(ARGV[4])
local patience = tonumber(ARGV[5])
local tail = tonumber(ARGV[6])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local look, take = algorithms.backlog.look, algorithms.backlog.take

local allowed, remaining, wait, reset_after, mended, waiting = look(state, now, limit, a, b, cost)
if tail > 0 then
  allowed, wait = reset_after > 0 and now + reset_after == tail, 0
  cost = -cost
elseif allowed then
  wait = math.ceil(waiting / b)
  if wait > patience then
    allowed, wait = false, wait - patience
  end
end
if allowed or mended then
  remaining, reset_after = take(state, now, limit, a, b, allowed and cost or 0, mended, waiting)
end
return {allowed and 1 or 0, remaining, wait, reset_after, now + reset_after}
