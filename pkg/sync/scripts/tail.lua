-- What was asked for, in its order. FIELDS and the layout of an operation are those of script.go.
local FIELDS, TAKE, RESET = 9, 0, 5
local states, saves = {}, {}
local count = #ARGV - 2
local ops = {}
for i = 1, count do
  local o, after = {}, nil
  o.verb, o.kind, o.k, o.group, o.seq, o.p1, o.p2, o.hits, o.want, o.back, o.grant, after =
    struct.unpack('<BBHHI4dddddd', ARGV[i + 2])
  o.name = string.sub(ARGV[i + 2], after)
  ops[i] = o
end

local function state(o)
  local s = states[o.k]
  if not s then
    s = families[o.kind].load(KEYS[o.k], o)
    states[o.k], saves[o.k] = s, o
  end
  return s
end

-- run does one operation on what is known of its key, and says of a take whether there was enough.
local function run(i)
  local o, r = ops[i], (i - 1) * FIELDS
  for f = 1, FIELDS do out[r + f] = 0 end
  local s, family = state(o), families[o.kind]
  if o.verb == RESET then
    s = family[RESET](s == BAD and { key = KEYS[o.k] } or s, o)
    states[o.k] = s
  elseif s == BAD then
    out[r + 1] = 2
    return false
  end
  local done = o.verb == RESET or family[o.verb](s, o, r)
  family.figures(s, o, r)
  return done
end

-- together does the takes of a group from the i-th operation on: all, or none.
local function together(i)
  local group, before, denied = ops[i].group, {}, false
  for j = i, count do
    local o = ops[j]
    if o.verb == TAKE and o.group == group then
      local s = state(o)
      if not before[o.k] then before[o.k] = s == BAD and BAD or families[o.kind].copy(s) end
      if not run(j) then denied = true end
      o.done = true
    end
  end
  if not denied then return end
  for j = i, count do
    local o, r = ops[j], (j - 1) * FIELDS
    if o.verb == TAKE and o.group == group then
      states[o.k] = before[o.k]
      if out[r + 1] ~= 2 then
        families[o.kind].denied(states[o.k], o)
        families[o.kind].figures(states[o.k], o, r)
        out[r + 9] = 0
      end
    end
  end
end

for i = 1, count do
  local o = ops[i]
  if o.verb == TAKE and o.group ~= 0 then
    if not o.done then together(i) end
  else
    run(i)
  end
end
for k, o in pairs(saves) do
  if states[k] ~= BAD then families[o.kind].save(states[k], o) end
end
return out
