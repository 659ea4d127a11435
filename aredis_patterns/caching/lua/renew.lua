-- Prolongs a lease while its loader works.
--
-- KEYS[1] lease           hash    <ns>:cache:{<name>}:l:<key>
-- ARGV[1] token           text    who loads
-- ARGV[2] lease_ms        ms      how long the lease lives from now on
-- RETURN[1] held          0|1     whether it was still held
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local lease = KEYS[1]
local token = ARGV[1]
local lease_ms = tonumber(ARGV[2])

if redis.call('HGET', lease, 'o') ~= token then
  return {0}
end
redis.call('PEXPIRE', lease, lease_ms)
return {1}
