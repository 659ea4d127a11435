-- Counts the members of set expressions over bitmaps: one program, any number of results, nothing left behind.
--
-- The program is a list of steps over registers: the keys, sets first, then as many scratch keys as it needs. A script
-- runs alone on the server, so nobody ever sees a scratch key, and the next program may use the same names; that is why
-- two callers cannot meet in one. They are removed at the end, after an error as well.
--
-- KEYS[1..] registers string  <ns>:act:{<name>}:...  the sets that are read, then <ns>:act:{<name>}:scratch:<n>
-- ARGV[1] sets        keys    how many of them are sets
-- ARGV[2] program     json    steps: ["AND"|"OR"|"XOR", to, from, ...] or ["COUNT", from]
-- RETURN[1] counts    list    one for each COUNT, in order
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local registers = {unpack(KEYS, 1)}
local sets = tonumber(ARGV[1])
local program = ARGV[2]

local counts, failed = {}, nil
for _, step in ipairs(cjson.decode(program)) do
  local reply
  if step[1] == 'COUNT' then
    reply = redis.pcall('BITCOUNT', registers[step[2]])
    counts[#counts + 1] = reply
  else
    local sources = {}
    for at = 3, #step do
      sources[#sources + 1] = registers[step[at]]
    end
    reply = redis.pcall('BITOP', step[1], registers[step[2]], unpack(sources))
  end
  if type(reply) == 'table' and reply.err then
    failed = reply
    break
  end
end
for at = sets + 1, #registers do
  local scratch = registers[at]
  redis.call('UNLINK', scratch)
end
if failed then
  return failed
end
return {counts}
