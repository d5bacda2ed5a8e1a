-- Which nodes told which version they have.
-- KEYS[1]: the nodes. ARGV[1]: how many there may be, ARGV[2]: how long what one tells may be.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' or redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
	return {now}
end
local told = {now}
for _, node in ipairs(redis.call('HKEYS', KEYS[1])) do
	if #node <= 128 and redis.call('HSTRLEN', KEYS[1], node) <= tonumber(ARGV[2]) then
		told[#told + 1] = node
		told[#told + 1] = redis.call('HGET', KEYS[1], node)
	end
end
return told
