--- Temporary folders and the files in them.
local uv = require "luv"

local files = {}

--- Makes an empty folder and returns its path.
function files.temporary(name)
  return assert(uv.fs_mkdtemp(("%s/%s-XXXXXX"):format(os.getenv("TMPDIR") or "/tmp", name)))
end

function files.read(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text = file:read("*a")
  file:close()
  return text
end

local function make_parents(path)
  for slash in path:gmatch("()/") do
    if slash > 1 then uv.fs_mkdir(path:sub(1, slash - 1), 493) end -- 0755; exists: fine
  end
end

--- Writes a file with its folders. It appears whole: a reader sees the old
-- text or the new one.
function files.write(path, text)
  make_parents(path)
  local temporary = path .. ".new~"
  local file = assert(io.open(temporary, "wb"))
  assert(file:write(text))
  file:close()
  assert(uv.fs_rename(temporary, path))
end

--- Writes {["a/b.lua"] = text} below a folder.
function files.write_tree(folder, tree)
  uv.fs_mkdir(folder, 493)
  for path, text in pairs(tree) do files.write(folder .. "/" .. path, text) end
end

--- Removes a file or a folder with all in it.
function files.remove(path)
  local stat = uv.fs_lstat(path)
  if not stat then return end
  if stat.type ~= "directory" then
    uv.fs_unlink(path)
    return
  end
  local scan = uv.fs_scandir(path)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    files.remove(path .. "/" .. name)
  end
  uv.fs_rmdir(path)
end

return files
