-- Takes entries out of the indexes whose records a scan did not find. ARGV[4..]: the members.
for number = 4, #ARGV do
  local member = ARGV[number]
  local index, _, id = split(member)
  if not index then
    redis.call('ZREM', scan_index, member)
  else
    local status, _, _, own_index = read(prefix .. ':result:' .. id)
    if not status then
      unlist(member)
    elseif own_index and unquote(own_index) ~= index then
      unlist(member, queue_of(unquote(own_index)))
    end
  end
end
return #ARGV - 3
