-- KEYS: what is remembered of the store. ARGV: its generation, its version, and the name that claims are filed under. A
-- generation that is new, or has a higher version, is remembered.
-- Returns what was known of the generation before: its version and that name, separated by a space; '' if it was not
-- known.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or tonumber(string.match(known, '^%d+')) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
end
return known or ''
