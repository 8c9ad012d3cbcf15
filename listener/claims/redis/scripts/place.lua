-- KEYS: the place's mark, one that is lost whenever claims are. ARGV: a name for it, if it has none.
-- Returns the name of the place: the server's run id (a failover has another) and the mark (a flush has another).
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. '.' .. redis.call('GET', KEYS[1])
