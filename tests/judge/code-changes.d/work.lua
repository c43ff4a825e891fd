-- Traces and side exits for LuaJIT; the same lines come out without its compiler.
local rounds = tonumber(arg[1])
local function mix(n)
    local t, s = {}, 0
    for i = 1, n do t[i] = (i * 7919) % 1009 end
    for i = 1, n do
        if t[i] % 3 == 0 then s = s + t[i] elseif t[i] % 5 == 0 then s = s - i else s = s + 0.5 end
    end
    return s
end
local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end
for round = 1, rounds do
    local f = loadstring("local a = ... local s = 0 for i = 1, 20000 do s = s + (i * a) % " .. round + 6 .. " end return s")
    local words = {}
    for w in (("alpha beta gamma "):rep(200)):gmatch("%a+") do words[w] = (words[w] or 0) + #w end
    local mt = setmetatable({}, { __index = function(_, k) return k * 2 end })
    local s = 0
    for i = 1, 5000 do s = s + mt[i] end
    print(round, f(round), mix(20000 + round), fib(20), words.alpha, words.gamma, s, bit.bxor(round, 0x55) )
end
