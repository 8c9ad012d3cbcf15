-- KEYS: what is remembered of the store. ARGV: its generation, and how far it has come. One that was never heard of, or
-- has come further, is remembered. Returns how far the generation had come before, as text; '' if it was not known.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or tonumber(known) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return known or ''
