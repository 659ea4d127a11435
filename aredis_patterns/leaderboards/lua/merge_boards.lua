-- Replaces a board by the union of others, scores weighted and combined, with the data of the members.
--
-- Everything is read before anything is written, so the board may be one of its own sources. Among equal scores on a
-- board with arrivals, the order is that of the sources: the first source that has a member decides.
--
-- KEYS[1] board       zset    <ns>:lb:{<group>}:<name>:<window>:z  the destination
-- KEYS[2..] parts     any     one key for each letter of the layout; then per source its board and its parts
-- ARGV[1] order       text    desc or asc
-- ARGV[2] layout      text    of the destination: d data, t arrivals, s distinct scores
-- ARGV[3] aggregate   text    SUM, MIN or MAX
-- ARGV[4] expires     ms      0 never; positive: at this time; negative: so long after now
-- ARGV[5] channel     text    where to announce changes; empty: nowhere
-- ARGV[6..] sources   any     per source its layout and its weight
-- RETURN[1] total     members on the board; -1: scores could leave the exact range, nothing was written
-- READ-ONLY no
-- REPLAY-SAFE no
--
local board = KEYS[1]
local parts = {unpack(KEYS, 2)}
local order = ARGV[1]
local layout = ARGV[2]
local aggregate = ARGV[3]
local expires = tonumber(ARGV[4])
local channel = ARGV[5]
local sources = {unpack(ARGV, 6)}

local LARGEST = 9007199254740992
local CHUNK = 4000

local function digits(number)
  return string.format('%.17g', number)
end

local function own(letter)
  local at = string.find(layout, letter, 1, true)
  return at and parts[at]
end

local data, ties, scores = own('d'), own('t'), own('s')
local plain = not ties
local found, bound = {}, 0
local at = #layout + 1
for n = 1, #sources, 2 do
  local letters, weight = sources[n], tonumber(sources[n + 1])
  local source = {board = parts[at], weight = weight}
  local has_data, has_ties = string.find(letters, 'd', 1, true), string.find(letters, 't', 1, true)
  source.data = has_data and parts[at + has_data]
  source.ties = has_ties and parts[at + has_ties]
  plain = plain and not has_ties
  at = at + 1 + #letters
  local from = source.board
  local largest = 0
  for _, place in ipairs({0, -1}) do
    local row = redis.call('ZRANGE', from, place, place, 'WITHSCORES')
    if row[2] then
      largest = math.max(largest, math.abs(tonumber(row[2]) * weight))
    end
  end
  bound = aggregate == 'SUM' and bound + largest or math.max(bound, largest)
  found[#found + 1] = source
end
if bound > LARGEST or (bound == LARGEST and aggregate == 'SUM' and #found > 1) then
  return {-1}
end

-- The first source that knows something of a member is believed.
local known = {}
if data then
  for n = #found, 1, -1 do
    local from = found[n].data
    local pairs_of = from and redis.call('HGETALL', from) or {}
    for i = 1, #pairs_of, 2 do
      known[pairs_of[i]] = pairs_of[i + 1]
    end
  end
end

local function combine(old, new)
  if aggregate == 'SUM' then
    return old + new
  end
  return aggregate == 'MIN' and math.min(old, new) or math.max(old, new)
end

local function in_chunks(list, size, action)
  for first = 1, #list, size do
    action({unpack(list, first, math.min(first + size - 1, #list))})
  end
end

if plain then
  local command = {#found}
  for _, source in ipairs(found) do
    command[#command + 1] = source.board
  end
  command[#command + 1] = 'WEIGHTS'
  for _, source in ipairs(found) do
    command[#command + 1] = digits(source.weight)
  end
  command[#command + 1] = 'AGGREGATE'
  command[#command + 1] = aggregate
  redis.call('ZUNIONSTORE', board, unpack(command))
else
  local sums, members = {}, {}
  for _, source in ipairs(found) do
    local from = source.board
    local first = 0
    repeat
      local rows
      if order == 'desc' then
        rows = redis.call('ZRANGE', from, first, first + CHUNK - 1, 'REV', 'WITHSCORES')
      else
        rows = redis.call('ZRANGE', from, first, first + CHUNK - 1, 'WITHSCORES')
      end
      for i = 1, #rows, 2 do
        local member = source.ties and string.sub(rows[i], 7) or rows[i]
        local value = tonumber(rows[i + 1]) * source.weight
        if sums[member] then
          sums[member] = combine(sums[member], value)
        else
          sums[member] = value
          members[#members + 1] = member
        end
      end
      first = first + CHUNK
    until #rows < 2 * CHUNK
  end
  redis.call('DEL', board)
  if ties then
    redis.call('DEL', ties)
    if #members > 0 then
      redis.call('HSET', ties, '', #members)
    end
  end
  local rows, stamps = {}, {}
  for arrival, member in ipairs(members) do
    local stored = member
    if ties then
      local stamp = struct.pack('>I6', order == 'desc' and 281474976710655 - arrival or arrival)
      stored = stamp .. member
      stamps[#stamps + 1] = member
      stamps[#stamps + 1] = stamp
    end
    rows[#rows + 1] = digits(sums[member])
    rows[#rows + 1] = stored
  end
  in_chunks(rows, CHUNK, function(chunk) redis.call('ZADD', board, unpack(chunk)) end)
  in_chunks(stamps, CHUNK, function(chunk) redis.call('HSET', ties, unpack(chunk)) end)
end

if data then
  redis.call('DEL', data)
  local fields = {}
  for member, value in pairs(known) do
    fields[#fields + 1] = member
    fields[#fields + 1] = value
  end
  in_chunks(fields, CHUNK, function(chunk) redis.call('HSET', data, unpack(chunk)) end)
end
if scores then
  redis.call('DEL', scores)
  local row = redis.call('ZRANGE', board, 0, 0, 'WITHSCORES')
  while row[2] do
    redis.call('ZADD', scores, row[2], row[2])
    row = redis.call('ZRANGE', board, '(' .. row[2], '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  end
end
for _, key in ipairs({board, unpack(parts, 1, #layout)}) do
  if expires == 0 then
    redis.call('PERSIST', key)
  else
    redis.call(expires > 0 and 'PEXPIREAT' or 'PEXPIRE', key, digits(math.abs(expires)))
  end
end
if channel ~= '' then
  redis.pcall('PUBLISH', channel, '!')
end
return {redis.call('ZCARD', board)}
