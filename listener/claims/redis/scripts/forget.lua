-- KEYS: some claims. Of the half that was asked for longest ago, removes those that are settled: a row or a burial in
-- PostgreSQL knows them. Returns how many.
local idle, order = {}, {}
for i = 1, #KEYS do
  idle[i] = redis.call('OBJECT', 'IDLETIME', KEYS[i]) or -1 -- expired meanwhile
  order[i] = i
end
table.sort(order, function(a, b) return idle[a] > idle[b] end)
local old, settled = {}, {}
for i = 1, math.ceil(#order / 2) do old[i] = KEYS[order[i]] end
for i, record in ipairs(redis.call('MGET', unpack(old))) do -- the others are not read: reading makes them young
  local state = record and string.sub(record, 1, 1)
  if state == 'D' or state == 'X' then settled[#settled + 1] = old[i] end
end
return #settled == 0 and 0 or redis.call('DEL', unpack(settled))
