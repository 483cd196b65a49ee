/* The operation lives until its handles are closed; the fiber is resumed at the end of the program.
 *
 *     spawn > write input > exit, or timeout and kill > resume > close handles > free
 */
// SPDX-License-Identifier: MIT
#include "script/bind_command.h"

#include "script/state.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_MOST = 64, INPUT_MOST = 1 << 20, TIMEOUT_MOST_MS = 600000 };

struct command_op {
    uv_process_t process;
    uv_pipe_t input;
    uv_timer_t timer;
    uv_write_t write;
    struct fiber *fiber; /* NULL: nobody waits any more */
    struct command_op *next; /* of the script's that run */
    char *name;          /* NULL: none */
    char *text;
    int handles;
    int64_t status;
    int signal;
    bool late;
};

static void op_free(struct command_op *op)
{
    free(op->name);
    free(op->text);
    free(op);
}

static void on_closed(uv_handle_t *handle)
{
    struct command_op *op = handle->data;
    if (--op->handles == 0)
        op_free(op);
}

static void leave_list(struct script *s, struct command_op *op)
{
    struct command_op **at = &s->commands;
    while (*at && *at != op)
        at = &(*at)->next;
    if (*at)
        *at = op->next;
}

static void close_handle(struct command_op *op, void *handle)
{
    ((uv_handle_t *)handle)->data = op;
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

/* It leads a process group of its own. */
static void kill_all(const struct command_op *op)
{
    if (op->process.pid > 0)
        kill(-op->process.pid, SIGKILL);
}

static int push_result(lua_State *L, void *user)
{
    const struct command_op *op = user;
    if (!op->late && op->signal == 0) {
        lua_pushnumber(L, (double)op->status);
        return 1;
    }
    lua_pushnil(L);
    if (op->late)
        lua_pushliteral(L, "it took too long and was killed");
    else
        lua_pushfstring(L, "it was ended by signal %d", op->signal);
    lua_pushstring(L, op->late ? "timeout" : "signal");
    return 3;
}

static void on_exit_command(uv_process_t *process, int64_t status, int signal_number)
{
    struct command_op *op = process->data;
    struct fiber *f = op->fiber;
    op->status = status;
    op->signal = signal_number;
    op->fiber = NULL;
    if (f)
        leave_list(f->script, op);
    op->handles++; /* ours, while the fiber runs */
    close_handle(op, &op->process);
    close_handle(op, &op->input);
    close_handle(op, &op->timer);
    if (f) {
        io_now(f->script->io);
        fiber_resume(f, push_result, op);
    }
    if (--op->handles == 0)
        op_free(op);
}

static void on_late(uv_timer_t *timer)
{
    struct command_op *op = timer->data;
    op->late = true;
    kill_all(op);
}

static void cancel(struct fiber *f)
{
    struct command_op *op = f->wait.op;
    op->fiber = NULL;
    leave_list(f->script, op);
    kill_all(op);
    close_handle(op, &op->process);
    close_handle(op, &op->input);
    close_handle(op, &op->timer);
}

static void on_written(uv_write_t *write, int status)
{
    struct command_op *op = write->data;
    (void)status; /* one that reads no input is free to */
    close_handle(op, &op->input);
}

static int failure(lua_State *L, const char *message, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, code);
    return 3;
}

/* The strings stay on the stack, under the list's. */
static bool take_arguments(lua_State *L, char *args[ARGUMENTS_MOST + 1])
{
    int n = (int)lua_objlen(L, 1);
    if (n < 1 || n > ARGUMENTS_MOST)
        return false;
    luaL_checkstack(L, n + 10, "arguments");
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        if (lua_type(L, -1) != LUA_TSTRING || strlen(lua_tostring(L, -1)) != lua_objlen(L, -1))
            return false;
        args[i] = (char *)lua_tostring(L, -1);
    }
    args[n] = NULL;
    return true;
}

static int start(struct command_op *op, uv_loop_t *loop, char **args)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&op->input},
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t options = {.file = args[0],
                                    .args = args,
                                    .exit_cb = on_exit_command,
                                    .stdio = stdio,
                                    .stdio_count = 3,
                                    .flags = UV_PROCESS_DETACHED};
    uv_pipe_init(loop, &op->input, 0);
    uv_timer_init(loop, &op->timer);
    op->process.data = op->input.data = op->timer.data = op->write.data = op;
    op->handles = 3;
    return uv_spawn(loop, &op->process, &options);
}

static int lua_command(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    char *args[ARGUMENTS_MOST + 1];
    size_t len;
    const char *name = luaL_optstring(L, 4, NULL);
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *text = luaL_checklstring(L, 2, &len);
    double timeout_ms = luaL_checknumber(L, 3);
    luaL_argcheck(L, len <= INPUT_MOST, 2, "at most 1 MiB");
    luaL_argcheck(L, timeout_ms >= 1 && timeout_ms <= TIMEOUT_MOST_MS, 3, "1 to 600000 ms");
    if (!take_arguments(L, args))
        return failure(L, "a command is a list of 1 to 64 strings, the program first", "invalid");
    struct command_op *op = calloc(1, sizeof *op);
    if (!op || !(op->text = malloc(len + 1))) {
        free(op);
        return failure(L, "out of memory", "no_memory");
    }
    memcpy(op->text, text, len);
    int err = start(op, &f->script->io->loop, args);
    if (err < 0) {
        close_handle(op, &op->process);
        close_handle(op, &op->input);
        close_handle(op, &op->timer);
        lua_pushnil(L);
        lua_pushfstring(L, "%s cannot be started: %s", args[0], uv_strerror(err));
        lua_pushliteral(L, "io");
        return 3;
    }
    op->fiber = f;
    op->name = name ? strdup(name) : NULL;
    op->next = f->script->commands;
    f->script->commands = op;
    uv_buf_t buf = uv_buf_init(op->text, (unsigned)len);
    if (uv_write(&op->write, (uv_stream_t *)&op->input, &buf, 1, on_written) < 0)
        close_handle(op, &op->input);
    uv_update_time(&f->script->io->loop);
    uv_timer_start(&op->timer, on_late, (uint64_t)timeout_ms, 0);
    return fiber_wait(L, f, cancel, op);
}

/* command_end(name): whether one of this name was running. */
static int lua_command_end(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    bool found = false;
    for (struct command_op *op = fiber_running(L)->script->commands; op; op = op->next)
        if (op->name && strcmp(op->name, name) == 0) {
            kill(-op->process.pid, SIGTERM);
            found = true;
        }
    lua_pushboolean(L, found);
    return 1;
}

void bind_command_open(lua_State *L)
{
    lua_pushcfunction(L, lua_command_end);
    lua_setfield(L, -2, "command_end");
    lua_pushcfunction(L, lua_command);
    lua_setfield(L, -2, "command");
}
