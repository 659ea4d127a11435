-- Opens a write to the source: removes the value, ends its lease, and lets nobody store until the write is over.
--
-- Two writers that overlap beat each other: neither knows whose write the source kept, so neither may store. A writer
-- that dies ends with its TTL.
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
redis.call('HSETNX', writers, token, 'o')
if redis.call('HLEN', writers) > 1 then
  beat_writers()
end
if redis.call('PTTL', writers) < px then
  redis.call('PEXPIRE', writers, px)
end
return {redis.call('HGET', writers, token) == 'o' and 1 or 0}
