-- Does the work of a message and finishes it, together: the commands run and the message is done, or neither.
--
-- Only for whoever still has the lease. The commands run in order; one that the server refuses (a wrong type) ends the
-- script there: what ran before it stays, the message is not done, and the caller gets the server's error.
--
-- INCLUDE _queue
-- KEYS[15..] touched  any     the key of each command, in the slot of the queue
-- ARGV[1] number      count   of this turn of this consumer
-- ARGV[2] id          us      the message
-- ARGV[3] deadline    us      of its lease
-- ARGV[4] lengths     counts  words of each command without its key, with commas
-- ARGV[5..] words     bytes   of all commands, without their keys
-- RETURN[1] state     code    1 done, 0 the lease was lost and nothing was done, -1 the turn is out of date
-- READ-ONLY no
-- REPLAY-SAFE yes
--
local touched = {unpack(KEYS, 15)}
local number = tonumber(ARGV[1])
local id = ARGV[2]
local deadline = tonumber(ARGV[3])
local lengths = ARGV[4]
local words = {unpack(ARGV, 5)}

local known = last_turn()
if known[1] == number then
  return {known[2]}
elseif known[1] > number then
  return {-1}
elseif tonumber(redis.call('ZSCORE', leases, id)) ~= deadline then
  remember({number, 0})
  return {0}
end

local at, command = 1, 1
for length in string.gmatch(lengths, '%d+') do
  redis.call(words[at], touched[command], unpack(words, at + 1, at + length - 1))
  at, command = at + length, command + 1
end
redis.call('ZREM', leases, id)
leave(id, facts(redis.call('HGET', messages, id) or '\n'))
redis.call('HDEL', messages, id)
redis.call('HDEL', failures, id)
redis.call('HINCRBY', counters, 'done', 1)
wake_producer()
if redis.call('EXISTS', ready) == 1 then
  wake_consumer()
end
remember({number, 1})
return {1}
