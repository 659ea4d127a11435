-- Gives each name its number: the one it has, or the next free one.
--
-- Numbers are dense, from 0, and never given twice: the next one is the size of the index. All of the names get one, or
-- none does.
--
-- KEYS[1] index       hash    <ns>:ids:{<name>}:i  name -> number
-- KEYS[2..] names     hash    <ns>:ids:{<name>}:n  number -> name, for an index that answers that question
-- ARGV[1] create      0|1     0 only looks
-- ARGV[2] max_id      id      largest number
-- ARGV[3..] wanted    bytes   the names
-- RETURN[1] status    0|1     1: the index is full, nothing was given
-- RETURN[2] ids       list    one per name; -1: it has none
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local index = KEYS[1]
local names = {unpack(KEYS, 2)}
local create = tonumber(ARGV[1])
local max_id = tonumber(ARGV[2])
local wanted = {unpack(ARGV, 3)}

local ids, missing, seen = redis.call('HMGET', index, unpack(wanted)), 0, {}
for at, name in ipairs(wanted) do
  ids[at] = tonumber(ids[at] or -1)
  if ids[at] < 0 and not seen[name] then
    seen[name] = -1
    missing = missing + 1
  end
end
if create == 1 and missing > 0 then
  local free = redis.call('HLEN', index)
  if free + missing > max_id + 1 then
    return {1, ids}
  end
  for at, name in ipairs(wanted) do
    if ids[at] < 0 then
      if seen[name] < 0 then
        seen[name] = free
        redis.call('HSET', index, name, free)
        local reverse = names[1]
        if reverse then
          redis.call('HSET', reverse, free, name)
        end
        free = free + 1
      end
      ids[at] = seen[name]
    end
  end
end
return {0, ids}
