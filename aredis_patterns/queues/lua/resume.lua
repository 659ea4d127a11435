-- Ends a pause and wakes everybody who waits.
--
-- INCLUDE _queue
-- RETURN[1] was_paused 0|1  whether there was a pause
-- READ-ONLY no
-- REPLAY-SAFE no
--
local was_paused = redis.call('DEL', paused)
local waiting = redis.call('ZRANGE', consumers, 0, -1, 'WITHSCORES')
redis.call('DEL', consumers)
for i = 1, #waiting, 2 do
  heard(waiting[i], waiting[i + 1])
end
return {was_paused}
