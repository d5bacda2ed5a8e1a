-- Compare and set: another set of the cluster's policies, if there is still the one that the caller saw.
-- KEYS[1]: the set. ARGV: the head to find ('' for no set, '*' for whatever there is), ms to live, the channel, then the fields.
local fields = {'begun', 'version', 'sum', 'encoding', 'by', 'at', 'body'}
local kind = redis.call('TYPE', KEYS[1]).ok
if ARGV[1] ~= '*' then
	local found = ''
	if kind == 'hash' then
		local head = redis.call('HMGET', KEYS[1], 'begun', 'version', 'sum')
		found = (head[1] or '') .. ':' .. (head[2] or '') .. ':' .. (head[3] or '')
	elseif kind ~= 'none' then
		found = kind
	end
	if found ~= ARGV[1] then
		return 0
	end
end
if kind ~= 'none' and kind ~= 'hash' then
	redis.call('DEL', KEYS[1])
end
local set = {}
for i, field in ipairs(fields) do
	set[2 * i - 1], set[2 * i] = field, ARGV[3 + i]
end
-- One command: all fields or none. What follows may fail, and nodes that poll make up for it.
redis.call('HSET', KEYS[1], unpack(set))
redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
redis.pcall('PUBLISH', ARGV[3], ARGV[5])
return 1
