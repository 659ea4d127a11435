-- Prolongs locks that are still held by their tokens; what is gone or taken over stays so.
--
-- Never creates a key: a lock that vanished may have been somebody else's in between.
--
-- KEYS[1..] locks      string  <ns>:lock:{<key>}         "<fence>\n<token>\n<inbox>\n<owner>"
-- ARGV[1..] claims     pair    for each lock: token, then its new life in ms (never shortened)
-- RETURN[1..] held     0|1     for each lock
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local locks = {unpack(KEYS, 1)}
local claims = {unpack(ARGV, 1)}

local held = {}
for i, lock in ipairs(locks) do
  local token, ttl = claims[2 * i - 1], claims[2 * i]
  local holder = string.match(redis.call('GET', lock) or '', '^%d+\n([^\n]*)\n')
  held[i] = 0
  if holder == token then
    redis.call('PEXPIRE', lock, ttl, 'GT')
    held[i] = 1
  end
end
return {unpack(held)}
