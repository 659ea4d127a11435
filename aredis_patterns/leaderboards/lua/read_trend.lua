-- Reads the strongest items with their decayed scores, or one item.
--
-- KEYS[1] board       zset    <ns>:trend:{<name>}:z   item, weighted score
-- KEYS[2] landmark    string  <ns>:trend:{<name>}:t0  in us
-- ARGV[1] half_life   us      of a hit
-- ARGV[2] count       items   most items
-- ARGV[3] item        bytes   empty: the strongest ones
-- RETURN[1] rows      list    item, score, ...
-- RETURN[2] rank      rank    of the first row; 0 without rows
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local board = KEYS[1]
local landmark = KEYS[2]
local half_life = tonumber(ARGV[1])
local count = tonumber(ARGV[2])
local item = ARGV[3]

local time = redis.call('TIME')
local start = tonumber(redis.call('GET', landmark))
local rows, rank = {}, 0
if start then
  if item == '' then
    rows = redis.call('ZRANGE', board, 0, count - 1, 'REV', 'WITHSCORES')
    rank = #rows > 0 and 1 or 0
  else
    local score = redis.call('ZSCORE', board, item)
    if score then
      rows = {item, score}
      rank = redis.call('ZREVRANK', board, item) + 1
    end
  end
  local factor = 2 ^ (-(time[1] * 1000000 + time[2] - start) / half_life)
  for at = 2, #rows, 2 do
    rows[at] = string.format('%.17g', tonumber(rows[at]) * factor)
  end
end
return {rows, rank}
