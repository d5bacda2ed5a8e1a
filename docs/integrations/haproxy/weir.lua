-- Asks weir about a request, and tells the client what it said. haproxy.cfg beside this file shows its use, and
-- has the way to weir in its section "weir".

-- What clients are told.
local told = {
	"retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-policy",
	"x-ratelimit-shadow", "ratelimit", "ratelimit-policy",
}

local function variable(name) return "txn.weir_" .. name:gsub("-", "_") end

-- The lines of one header as one: RFC 9110, section 5.3. HAProxy counts them from 0.
local function joined(lines)
	if lines == nil then return nil end
	local all = {}
	for i = 0, #lines do all[#all + 1] = lines[i] end
	return table.concat(all, ", ")
end

-- What weir is told of the request, and nothing else: no header that a client made up comes through.
local function question(txn)
	local function some(value)
		return value ~= nil and value ~= "" and { value } or nil
	end
	return {
		["x-forwarded-for"] = { txn.sf:src() },
		["x-forwarded-method"] = { txn.sf:method() },
		["x-forwarded-uri"] = { txn.sf:path() },
		["x-user"] = some(txn:get_var("txn.weir_user")),
		["x-api-key"] = some(txn.sf:req_hdr("x-api-key")),
		["authorization"] = some(txn.sf:req_hdr("authorization")),
		["accept"] = some(txn.sf:req_hdr("accept")),
	}
end

-- Ends the request with weir's own answer.
local function refuse(txn, answer)
	local headers = { ["content-type"] = { joined(answer.headers["content-type"]) } }
	for _, name in ipairs(told) do
		local value = joined(answer.headers[name])
		if value then headers[name] = { value } end
	end
	txn:done(txn:reply({ status = answer.status, headers = headers, body = answer.body }))
end

core.register_action("weir", { "http-req" }, function(txn, while_away)
	local answer = core.httpclient():get({
		url = "http://weir/v1/auth", dst = "abns@weir", headers = question(txn),
	})
	if answer.status == 0 or answer.status >= 500 then
		if while_away ~= "open" then txn:done(txn:reply({ status = 503 })) end
		return
	end
	if answer.status ~= 200 then return refuse(txn, answer) end
	for _, name in ipairs(told) do
		local value = joined(answer.headers[name])
		if value then txn:set_var(variable(name), value) end
	end
end, 1)

core.register_action("weir_tell", { "http-res" }, function(txn)
	for _, name in ipairs(told) do
		local value = txn:get_var(variable(name))
		if value then txn.http:res_set_header(name, value) end
	end
end, 0)
