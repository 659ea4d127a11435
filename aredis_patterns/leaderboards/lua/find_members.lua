-- Finds the rank, the score and the data of each given member.
--
-- KEYS[1] board       zset    <ns>:lb:{<group>}:<name>:<window>:z
-- KEYS[2..] parts     any     one key for each letter of the layout
-- ARGV[1] order       text    desc or asc
-- ARGV[2] ranking     text    ordinal, standard or dense
-- ARGV[3] layout      text    d data, t arrivals, s distinct scores
-- ARGV[4..] members   bytes   who
-- RETURN[1] total     members on the board
-- RETURN[2] ranks     list    one per member; 0: not there
-- RETURN[3] scores    list    one per member; empty: not there
-- RETURN[4] data      list    one per member; empty: nothing known
-- READ-ONLY yes
-- REPLAY-SAFE yes
--
local board = KEYS[1]
local parts = {unpack(KEYS, 2)}
local order = ARGV[1]
local ranking = ARGV[2]
local layout = ARGV[3]
local members = {unpack(ARGV, 4)}

local function part(letter)
  local at = string.find(layout, letter, 1, true)
  return at and parts[at]
end

local data, ties, distinct = part('d'), part('t'), part('s')
local counted = ranking == 'dense' and distinct or board
local ranks, scores, values = {}, {}, {}
for at, member in ipairs(members) do
  local stamp = ties and redis.call('HGET', ties, member)
  local stored = stamp and stamp .. member or member
  local score = redis.call('ZSCORE', board, stored)
  ranks[at], scores[at], values[at] = 0, score or '', ''
  if score then
    if ranking == 'ordinal' then
      ranks[at] = redis.call(order == 'desc' and 'ZREVRANK' or 'ZRANK', board, stored) + 1
    elseif order == 'desc' then
      ranks[at] = redis.call('ZCOUNT', counted, '(' .. score, '+inf') + 1
    else
      ranks[at] = redis.call('ZCOUNT', counted, '-inf', '(' .. score) + 1
    end
    if data then
      values[at] = redis.call('HGET', data, member) or ''
    end
  end
end
return {redis.call('ZCARD', board), ranks, scores, values}
