-- One node's heartbeat, by Redis' own clock.
-- KEYS[1]: the nodes, by the ms of their last heartbeats; KEYS[2]: the epoch, "ID:MS" with the ms at which it began.
-- ARGV: 1 the node, 2 ms after which a silent node is dead, 3 TTL of the nodes in ms, 4 the ID of an epoch that begins here,
-- 5 TTL of the epoch in ms, 6 how many nodes there may be, 7 "1": list them; 8 the time in ms, of tests.
-- Answers the ms now, how many nodes there are, the epoch's ID and age in ms, whether it began here, and name, age, ...
for i, want in ipairs({'zset', 'string'}) do
	local kind = redis.call('TYPE', KEYS[i]).ok
	if kind ~= 'none' and kind ~= want then
		return redis.error_reply('WRONGTYPE a key of the nodes is a ' .. kind)
	end
end
local now
if ARGV[8] then
	now = tonumber(ARGV[8])
else
	local time = redis.call('TIME')
	now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local at, most = string.format('%.0f', now), tonumber(ARGV[6])

-- Redis' clock may go back, and a score may be anything: what lies ahead is as old as now, and ages from now on.
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. at, '+inf', 'LIMIT', 0, most)
for _, node in ipairs(ahead) do
	redis.call('ZADD', KEYS[1], at, node)
end
if #ahead == most then
	redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. at, '+inf')
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
redis.call('ZADD', KEYS[1], at, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])

-- No epoch, or none that can be read: what was here is lost.
local text, id, began = redis.call('GET', KEYS[2]), nil, nil
if text and #text <= 64 then
	id, began = string.match(text, '^([0-9a-f]+):(%d+)$')
	began = tonumber(began)
end
local made = not (id and #id == 16 and began)
if made then
	id, began = ARGV[4], now
end
if made or began > now then
	began = now
	redis.call('SET', KEYS[2], id .. ':' .. at, 'PX', ARGV[5])
else
	redis.call('PEXPIRE', KEYS[2], ARGV[5])
end

local answer = {now, redis.call('ZCARD', KEYS[1]), id, now - began, made and 1 or 0}
if ARGV[7] == '1' then
	local list = redis.call('ZREVRANGE', KEYS[1], 0, most - 1, 'WITHSCORES')
	for i = 1, #list, 2 do
		answer[#answer + 1] = #list[i] <= 128 and list[i] or ''
		answer[#answer + 1] = now - tonumber(list[i + 1])
	end
end
return answer
