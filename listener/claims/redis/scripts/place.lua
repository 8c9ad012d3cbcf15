-- KEYS: the place's mark, which is lost whenever the claims are. ARGV: a mark to set, if there is none.
-- Returns the name of the place: the server's run id (new after a failover) and the mark (new after a flush); and which
-- share of the memory that this server may use is used, 0 if it makes room by itself.
local mark = redis.call('GET', KEYS[1])
if not mark then -- a SET that would change nothing is refused too by a server without room
  redis.call('SET', KEYS[1], ARGV[1])
  mark = ARGV[1]
end

local memory = redis.call('INFO', 'memory')
local function number(name) return tonumber(string.match(memory, '\n' .. name .. ':(%d+)')) or 0 end
local limit = number('maxmemory')
if limit == 0 then limit = number('total_system_memory') end
local fill = 0
if limit > 0 and string.find(memory, 'maxmemory_policy:noeviction', 1, true) then
  fill = math.min(99, math.max(0, (number('used_memory') - number('mem_not_counted_for_evict')) / limit))
end
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return run_id .. '.' .. mark .. string.format(' %.4f', fill)
