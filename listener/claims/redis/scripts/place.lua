-- KEYS: the place's mark, which is lost whenever the claims are. ARGV: a mark to set, if there is none.
-- Returns the name of the place: the server's run id (new after a failover) and the mark (new after a flush).
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. '.' .. redis.call('GET', KEYS[1])
