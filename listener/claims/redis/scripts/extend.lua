-- ARGV 5: digests; 6: for each event its epoch, and how many suspects were taken over with it, four bytes each; 7: in
-- the same form how many owners were lost, and how many of them while they ran it alone; 8: '1' to also take what
-- nobody is running (replicate).
-- Returns one byte for each event: '1' mine, '0' another's or settled.
local digests, epochs, losses, also_free = ARGV[5], ARGV[6], ARGV[7], ARGV[8] == '1'
local answers = {}
for i = 1, count do
  local record = records[i]
  local state = state_of(record)
  local mine = not state
  local r = {}
  r.epoch, r.company = struct.unpack('>I4I4', epochs, i * 8 - 7)
  r.takeovers, r.alone = struct.unpack('>I4I4', losses, i * 8 - 7)
  if state == LEASED or state == RELEASED then
    local old = read(record)
    mine = state == LEASED and old.owner == token or also_free and (state == RELEASED or not runs(i, old))
    r.epoch, r.takeovers = math.max(r.epoch, old.epoch), math.max(r.takeovers, old.takeovers)
    r.alone = math.max(r.alone, old.alone)
  end
  if mine then lease_to_me(i, r, eight(digests, i)) end
  answers[i] = mine and '1' or '0'
end
write_all()
return table.concat(answers)
