-- Makes the next fence of a lock larger than a given one, if the lock is still held by a token. For Redlock.
--
-- KEYS[1] lock         string  <ns>:lock:{<key>}         "<fence>\n<token>\n<inbox>\n<owner>"
-- KEYS[2] fence        string  <ns>:lock:{<key>}:fence   the last fence given
-- ARGV[1] token        text    who holds it
-- ARGV[2] number       fence   at least this has been given
-- RETURN[1] held       0|1     whether the token holds it; otherwise nothing was changed
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local lock = KEYS[1]
local fence = KEYS[2]
local token = ARGV[1]
local number = ARGV[2]

local held = 0
if string.match(redis.call('GET', lock) or '', '^%d+\n([^\n]*)\n') == token then
  held = 1
  if (tonumber(redis.call('GET', fence) or 0) or 0) < tonumber(number) then
    redis.call('SET', fence, number, 'PX', 2592000000) -- 30 days
  end
end
return {held}
