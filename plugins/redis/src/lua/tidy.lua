-- Takes entries out of the indexes whose records a scan did not find. ARGV[4..]: the members.
for number = 4, #ARGV do
  local member = ARGV[number]
  local index, _, id = split(member)
  if not index then
    redis.call('ZREM', scan_index, member)
  else
    local result_key = prefix .. ':result:' .. id
    local head = read_head(result_key)
    if head == '' then
      unlist(member)
    elseif is_ours(head) then
      local own_index = index_of(result_key, head)
      if own_index ~= index then
        unlist(member, queue_in(own_index))
      end
    end
  end
end
return #ARGV - 3
