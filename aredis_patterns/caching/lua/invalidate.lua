-- Removes a value and ends its lease: whatever is being loaded now will not be kept, and no open writer will store.
--
-- INCLUDE _entry
-- ARGV[1] hold            ms      load for so long without storing (a replica of the source may lag); 0 none
-- RETURN[1] removed       0|1     whether there was a value that counted
-- READ-ONLY no
-- REPLAY-SAFE no
--
local hold = tonumber(ARGV[1])

local stored = redis.call('GET', value)
local removed = stored and judge(stored) and 1 or 0
redis.call('UNLINK', value)
wake('r')
beat_writers()
if hold > 0 then
  open_writer('!hold', 'x', hold, '')
end
return {removed}
