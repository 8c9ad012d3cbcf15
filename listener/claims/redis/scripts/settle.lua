-- ARGV 5: digests; 6: proofs, or nothing; 7: the state to settle as.
-- Returns one byte for each event: '1' settled, '0' another's lease is running.
local digests, proofs, verdict = ARGV[5], ARGV[6], ARGV[7]
local answers = {}
for i = 1, count do
  local record = records[i]
  local state = state_of(record)
  local free = true
  if state == LEASED then
    free = owner_of(record) == token or not runs(i, read(record)) -- nearly all are ours: a quarter less work
  elseif state == DONE then
    free = verdict == DONE -- a stored event stays stored
  end
  if free then put(i, verdict .. eight(digests, i) .. eight(proofs, i)) end
  answers[i] = free and '1' or '0'
end
write_or_forget()
return table.concat(answers)
