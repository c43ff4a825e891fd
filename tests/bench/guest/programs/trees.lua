-- Tables, closures, strings, garbage collection. Under LuaJIT this is mostly its collector and interpreter.
local function tree(depth)
  if depth == 0 then return {} end
  return { tree(depth - 1), tree(depth - 1) }
end
local function check(t)
  return t[1] and 1 + check(t[1]) + check(t[2]) or 1
end
local n = 0
for i = 1, tonumber(arg[1]) do n = n + check(tree(12)) end
local parts = {}
for i = 1, 20000 do parts[#parts + 1] = string.format('%d:%s', i, ('x'):rep(i % 7)) end
local s = table.concat(parts, ',')
local digits = 0
for d in s:gmatch('%d+') do digits = digits + #d end
print(n, #s, digits)
