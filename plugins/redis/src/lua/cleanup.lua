-- Removes what leads to records that have expired, and expired records that are still there.
--
-- ARGV[4] is now in whole milliseconds, ARGV[5] how many entries to look at.
-- Returns how many records were removed and how many entries were looked at.
local now_ms, batch = ARGV[4], ARGV[5]
local removed = 0
local due = redis.call('ZRANGEBYSCORE', expiry_index, '-inf', now_ms, 'LIMIT', 0, batch)
for _, member in ipairs(due) do
  local index, _, id = split(member)
  if not index then
    redis.call('ZREM', expiry_index, member)
  else
    local result_key = prefix .. ':result:' .. id
    local head = read_head(result_key)
    if head == '' then
      unlist(member)
      removed = removed + 1
    elseif not is_ours(head) then
      -- rabbitmq-arq wrote over it: Redis knows how long that lives.
      local left = redis.call('PTTL', result_key)
      if left > 0 then
        redis.call('ZADD', expiry_index, string.format('%.0f', tonumber(now_ms) + left), member)
      else
        redis.call('ZREM', expiry_index, member)
      end
    else
      local _, _, expires = parts(head)
      local own_index = index_of(result_key, head)
      if own_index ~= index then
        unlist(member, queue_in(own_index))
      elseif sub(expires, 1, 1) == '1' then
        redis.call('ZREM', expiry_index, member)
      elseif has_expired(expires) then
        redis.call('DEL', result_key, prefix .. ':status:' .. id)
        unlist(member)
        removed = removed + 1
      else
        redis.call('ZADD', expiry_index, milliseconds(expires), member)
      end
    end
  end
end
return { removed, #due }
