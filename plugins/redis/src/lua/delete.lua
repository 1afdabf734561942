-- Deletes records with everything that leads to them.
--
-- KEYS[3..]: for each record its result key and its status key. ARGV[4..]: the job ids.
-- Returns one character per record: 1 a live one was there, 0 none was.
local outcomes = {}
for number = 0, #ARGV - 4 do
  local result_key, status_key = KEYS[3 + number * 2], KEYS[4 + number * 2]
  local id = ARGV[4 + number]
  local status, _, expires, index, queue = read(result_key)
  local live = status and not has_expired(expires, index)
  redis.call('DEL', result_key, status_key)
  if index then
    unlist(unquote(index) .. id)
  elseif queue then
    redis.pcall('SREM', queue_key(queue), id)
  end
  outcomes[#outcomes + 1] = live and '1' or '0'
end
return table.concat(outcomes)
