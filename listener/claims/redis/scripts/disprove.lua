-- ARGV 5 and 6: the two halves of settled records that prove nothing. Deletes those that are still as they were found.
for i = 1, count do
  local record = records[i]
  local state = state_of(record)
  if (state == DONE or state == DEAD) and proof_in(record) == eight(ARGV[5], i) .. eight(ARGV[6], i) then
    redis.call('DEL', KEYS[i + 1])
  end
end
return ''
