-- Deletes records with everything that leads to them.
--
-- KEYS[3..]: for each record its result key and its status key. ARGV[4..]: the job ids.
-- Returns one character per record: 1 a live one was there, 0 none was.
local outcomes = {}
for number = 0, #ARGV - 4 do
  local result_key, status_key = KEYS[3 + number * 2], KEYS[4 + number * 2]
  local id = ARGV[4 + number]
  local head = read_head(result_key)
  local live = false
  if is_ours(head) then
    local _, _, expires = parts(head)
    live = not has_expired(expires)
    unlist(index_of(result_key, head) .. id)
  elseif head ~= '' then
    local _, _, expires, queue = read_foreign(result_key)
    live = not has_expired(expires)
    if queue then
      redis.pcall('SREM', queue_key(queue), id)
    end
  end
  redis.call('DEL', result_key, status_key)
  outcomes[#outcomes + 1] = live and '1' or '0'
end
return table.concat(outcomes)
