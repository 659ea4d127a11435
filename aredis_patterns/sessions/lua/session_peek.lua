-- Looks at a session without touching it.
--
-- KEYS[1] session      hash   <ns>:sess:<name>:{<tag>}:<hash>
-- ARGV[1] idle         ms     life without a request
-- ARGV[2] absolute     ms     life in all
-- RETURN[1] status     0|1    gone, there
-- RETURN[2] left       ms     until it expires
-- RETURN[3] created    ms     server time
-- RETURN[4] seen       ms     server time
-- RETURN[5] user       text   whose it is; empty: nobody's
-- RETURN[6] meta       json   what was said of the device; empty: nothing
-- RETURN[7] moved      text   gone, because it goes on under this handle; empty: just gone
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local session = KEYS[1]
local idle = tonumber(ARGV[1])
local absolute = tonumber(ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found = redis.call('HMGET', session, 'created', 'seen', 'user', 'meta', 'moved')
local created, seen = tonumber(found[1]), tonumber(found[2])
local left = created and math.min(seen + idle, created + absolute) - now or 0
if left <= 0 then
  return {0, 0, 0, 0, '', '', found[5] or ''}
end
return {1, left, created, seen, found[3] or '', found[4] or '', ''}
