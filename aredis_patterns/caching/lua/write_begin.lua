-- Opens a write to the source: removes the value, ends its lease, and lets nobody store until the write is over.
--
-- Two writers that overlap beat each other: neither knows whose write the source kept, so neither may store. A writer
-- that dies ends when its time is over. The version of its value is taken now, so a clear() or an invalidated tag that
-- comes while it is open counts.
--
-- INCLUDE _entry
-- ARGV[1] token           text    names this write
-- ARGV[2] px              ms      how long it may take
-- RETURN[1] alone         0|1     whether no other writer is open
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local token = ARGV[1]
local px = tonumber(ARGV[2])

redis.call('UNLINK', value)
wake('r')
if redis.call('HEXISTS', writers, token) == 0 then
  local version = version_now(1)
  open_writer(token, 'o', px, version and digits(version) or '')
end
if open_writers() > 1 then
  beat_writers()
end
local state = redis.call('HGET', writers, token)
return {state and string.sub(state, 1, 1) == 'o' and 1 or 0}
