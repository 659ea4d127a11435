-- Counts a channel and publishes the message with its number.
--
-- The number tells subscribers exactly how many they have missed. It is counted here and not by publishers, so it is
-- one row however many of them there are. The epoch is the moment at which the count began: a count that was lost is
-- not taken for the old one.
--
-- KEYS[1] counter     hash     <ns>:ps:count:{<tag of the channel>}:<channel>  n: newest number, epoch: us
-- ARGV[1] channel     text     where to publish; in a Cluster in the slot of the counter
-- ARGV[2] sharded     0|1      1: SPUBLISH
-- ARGV[3] ttl         ms       life of the count after the last message
-- ARGV[4] body        bytes    the message
-- RETURN[1] receivers units    as PUBLISH says
-- RETURN[2] number    units    of this message
-- READ-ONLY no
-- REPLAY-SAFE no
--
local counter = KEYS[1]
local channel = ARGV[1]
local sharded = tonumber(ARGV[2])
local ttl = tonumber(ARGV[3])
local body = ARGV[4]

local number = redis.call('HINCRBY', counter, 'n', 1)
if number == 1 then
  local time = redis.call('TIME')
  redis.call('HSET', counter, 'epoch', string.format('%.0f', time[1] * 1000000 + time[2]))
end
redis.call('PEXPIRE', counter, ttl)
local epoch = redis.call('HGET', counter, 'epoch')
local verb = sharded == 1 and 'SPUBLISH' or 'PUBLISH'
local receivers = redis.call(verb, channel, '\0ap1 ' .. epoch .. ' ' .. string.format('%.0f', number) .. ' ' .. body)
return {receivers, number}
