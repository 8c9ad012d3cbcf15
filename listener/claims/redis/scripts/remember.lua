-- KEYS: what is remembered of the store. ARGV: its generation, how far it has come, and the name that claims are filed
-- under. One that was never heard of, or has come further, is remembered. Returns what was known of the generation
-- before: how far it had come, and that name, with a space between; '' if it was not known.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or tonumber(string.match(known, '^%d+')) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
end
return known or ''
