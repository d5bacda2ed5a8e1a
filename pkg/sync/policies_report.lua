-- A node tells which version it has, and keeps the set from expiring.
-- KEYS[1]: the nodes, KEYS[2]: the set. ARGV: node, what it tells, ms for the set to live, ms for a node to be remembered,
-- how many nodes may tell, '1' to forget nodes that have not told for long.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local most = tonumber(ARGV[5])
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and (kind ~= 'hash' or redis.call('HLEN', KEYS[1]) > most) then
	redis.call('DEL', KEYS[1]) -- somebody else's, or nonsense: what nodes tell is soon told again
elseif ARGV[6] == '1' then
	local all = redis.call('HGETALL', KEYS[1])
	for i = 1, #all, 2 do
		local at = tonumber(string.match(all[i + 1], '^(%d+) '))
		if not at or at < now - tonumber(ARGV[4]) or at > now + tonumber(ARGV[4]) then
			redis.call('HDEL', KEYS[1], all[i])
		end
	end
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 or redis.call('HLEN', KEYS[1]) < most then
	redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 and left < tonumber(ARGV[3]) / 2 then
	redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1
