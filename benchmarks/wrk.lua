-- Posts signed events, each with an id of its own:  wrk --script wrk.lua URL -- FOLDER [once CONNECTIONS]
-- FOLDER holds the body before and after the id (`head`, `tail`), and `signed`: ids and signatures.
-- `once` sends each event at least once and ends; else it goes on for as long as wrk is told to.

local thread_of_load

function setup(thread)
   thread_of_load = thread
end

local function read(file)
   local handle = assert(io.open(file, "rb"))
   local content = handle:read("*a")
   handle:close()
   return content
end

function init(arguments)
   local folder, once, connections = arguments[1], arguments[2] == "once", tonumber(arguments[3])
   local head, tail = read(folder .. "/head"), read(folder .. "/tail")
   local ids, signatures, number = {}, {}, 0
   for line in io.lines(folder .. "/signed") do
      number = number + 1
      ids[number], signatures[number] = line:match("(%S+) (%S+)")
   end
   local top = string.format(
      "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n" ..
      "Content-Length: %d\r\nStripe-Signature: ",
      wrk.path, wrk.host, #head + #ids[1] + #tail)
   local calls, answers, bad = 0, 0, 0
   ran_out = 0

   function request()
      local index = math.max(calls, 1) -- wrk calls once to look at a request it does not send
      calls = calls + 1
      if index > number then
         index, ran_out = number, 1
      end
      return top .. signatures[index] .. "\r\n\r\n" .. head .. ids[index] .. tail
   end

   if once then
      function response(status)
         answers = answers + 1
         if status < 200 or status > 299 then
            bad = bad + 1
         end
         if answers == number + connections then -- the last ones of all connections are repeats
            print(string.format('{"requests": %d, "bad": %d}', answers, bad))
            io.stdout:flush()
            os.exit(0)
         end
      end
   end
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format(
      '{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "bad": %d, "ran_out": %d}',
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      thread_of_load:get("ran_out")))
end
