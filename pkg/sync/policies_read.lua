-- What is under the key of the cluster's policies, in one look. Nothing is written: a replica may answer.
-- KEYS[1]: the set. ARGV[1]: the head that the caller has seen; ARGV[2...]: how long each field may be.
local fields = {'begun', 'version', 'sum', 'encoding', 'by', 'at', 'body'}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
	return {now, 'none'}
end
if kind ~= 'hash' then
	return {now, 'bad', 'it is a ' .. kind}
end
-- Before anything is read: somebody may have put half a gigabyte there.
for i, field in ipairs(fields) do
	local length = redis.call('HSTRLEN', KEYS[1], field)
	if length > tonumber(ARGV[i + 1]) then
		return {now, 'bad', field .. ' has ' .. length .. ' bytes, and may have ' .. ARGV[i + 1]}
	end
end
local head = redis.call('HMGET', KEYS[1], 'begun', 'version', 'sum')
if (head[1] or '') .. ':' .. (head[2] or '') .. ':' .. (head[3] or '') == ARGV[1] then
	return {now, 'same'}
end
local all = redis.call('HMGET', KEYS[1], unpack(fields))
for i, field in ipairs(fields) do
	all[i] = all[i] or ''
end
return {now, 'set', unpack(all)}
