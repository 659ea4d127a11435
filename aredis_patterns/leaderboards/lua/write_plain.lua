-- Writes one score to a board that has nothing but members and scores: what write_score does there, in half the time.
--
-- For ordinal ranks, one window, no data, arrivals, limit, TTL or announcements. Scores are answered as texts that the
-- caller or the server has written, so nothing is formatted here but sums.
--
-- KEYS[1] record      string  <ns>:lb:{<group>}:<name>:op:<owner>:<slot>  "<operation> <answer>"
-- KEYS[2] board       zset    <ns>:lb:{<group>}:<name>:all:z
-- ARGV[1] operation   number  of this slot
-- ARGV[2] member      bytes   who
-- ARGV[3] score       number  the score, or what to add to it
-- ARGV[4] mode        text    set, best, worst or add
-- ARGV[5] order       text    desc or asc
-- ARGV[6] record_ttl  ms      life of the record
-- RETURN[1] status    0|3     0 written, 3 the sum is out of range
-- RETURN[2] answer    text    as write_score does
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local record = KEYS[1]
local board = KEYS[2]
local operation = ARGV[1]
local member = ARGV[2]
local score = ARGV[3]
local mode = ARGV[4]
local order = ARGV[5]
local record_ttl = ARGV[6]

local known = redis.call('GET', record)
if known then
  local number, answer = string.match(known, '^(%d+) (.*)$')
  -- A later number: this one was overtaken on another connection, and nobody waits for it.
  if number and tonumber(number) >= tonumber(operation) then
    return {0, answer}
  end
end

local place_of = order == 'desc' and 'ZREVRANK' or 'ZRANK'
local old = redis.call('ZSCORE', board, member)
local before, applied, previous = 0, true, 0
if old then
  before = tonumber(old)
  previous = redis.call(place_of, board, member) + 1
end
if mode == 'add' then
  local sum = before + tonumber(score)
  local size = math.abs(sum)
  -- 2^53 + 1 is 2^53 again: at the edge only what was really added counts.
  if size > 9007199254740992 or (size == 9007199254740992 and sum - before ~= tonumber(score)) then
    return {3, string.format('%.17g', sum)}
  end
  score = string.format('%.17g', sum)
elseif old and (mode == 'best' or mode == 'worst') then
  local higher, lower = tonumber(score) > before, tonumber(score) < before
  if (mode == 'best') == (order == 'desc') then
    applied = higher
  else
    applied = lower
  end
end

local rank = previous
if applied and (not old or tonumber(score) ~= before) then
  redis.call('ZADD', board, score, member)
  rank = redis.call(place_of, board, member) + 1
end
local answer = rank .. ' ' .. previous .. ' ' .. (applied and score or old) .. ' ' .. (old or '-')
  .. (applied and ' 1' or ' 0')
redis.call('SET', record, operation .. ' ' .. answer, 'PX', record_ttl)
return {0, answer}
