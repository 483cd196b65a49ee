// SPDX-License-Identifier: MIT
#include "http/compress_parts.h"

#include "base/err.h"
#include "http/coded.h"
#include "http/conn.h"
#include "http/filter.h"
#include "task/task.h"

#include <stdlib.h>

_Static_assert(CODEC_COUNT - 1 == CODING_COUNT, "lanes count every coding but identity");

enum {
    COSTS = 32,          /* levels that have a learned cost */
    LEARN_BYTES = 1024,  /* smaller bodies say little about the cost of a byte */
    FLUSH_MOST_MS = 100, /* a stream that never pauses is flushed this often */
    PIECE_BYTES = 16384, /* of a stream are gathered for one call: coders hate small ones */
    INLINE_FACTOR = 10,  /* with the queue full, still done on the loop up to this many inline_us */
};

struct compress {
    struct io *io;
    struct board *board;
    struct board_process *process;
    struct lane *lane;
    struct codec *codec;
    struct tasks *tasks;
    struct buf scratch;
    size_t stream_bytes; /* of all streams */
    double ns_per_byte[CODEC_COUNT][COSTS];
};

enum mode {
    MODE_PASS,   /* not compressed */
    MODE_GATHER, /* the head is kept, the body grows */
    MODE_WHOLE,  /* the body is with a task thread */
    MODE_STREAM,
};

/* Work for a thread. On its own, because the exchange may end before it does. */
struct job {
    struct task task;
    struct press *press; /* NULL: nobody wants the result any more */
    struct codec_stream *stream; /* NULL: whole */
    enum codec_id id;
    int level;
    enum codec_flush flush;
    size_t most; /* whole: largest output of use */
    struct buf in, out;
    int err;
};

struct press {
    struct filter filter;
    struct compress *c;
    struct compress_rules *rules;
    struct exchange *ex;
    enum mode mode;
    struct verdict verdict;
    struct answer head;     /* kept: as the application said it */
    struct buf body;        /* gathered; of a stream: waiting behind the job */
    struct job *job;        /* under way */
    struct codec_stream *stream;
    size_t stream_bytes;    /* what it counts for */
    size_t inside;          /* fed to the stream since it last gave output */
    bool flush_wanted, ended, failed;
    bool kept;              /* the coded body was found, not made */
    struct timer timer;     /* of the pause that flushes */
    uint64_t unflushed_ms;  /* since when; 0: nothing */
    uint64_t bytes_in, bytes_out, cpu_ns;
};

/* ---- rules ---- */

struct compress_rules *compress_rules_new(void)
{
    struct compress_rules *r = calloc(1, sizeof *r);
    if (r)
        r->references = 1;
    return r;
}

void compress_rules_put(struct compress_rules *r)
{
    if (--r->references)
        return;
    for (unsigned i = 0; i < r->type_count; i++)
        free(r->types[i]);
    free(r->types);
    free(r);
}

/* ---- figures ---- */

static struct compression_lane *lane_of(const struct press *p)
{
    uint32_t route = p->ex->route < p->c->board->routes_max ? p->ex->route : ROUTE_OTHER;
    return &p->c->lane->routes[route].compression;
}

static void count_skip(const struct press *p, enum skip why)
{
    lane_add(&lane_of(p)->skipped[why], 1);
}

static struct coding_lane *coding_of(const struct press *p)
{
    return &lane_of(p)->codings[p->verdict.id - 1];
}

static void count_body(const struct press *p)
{
    struct compression_lane *lane = lane_of(p);
    struct coding_lane *coding = coding_of(p);
    lane_add(&coding->bodies, 1);
    lane_add(&coding->bytes_in, p->bytes_in);
    lane_add(&coding->bytes_out, p->bytes_out);
    lane_add(&coding->cpu_ns, p->cpu_ns);
    if (p->verdict.lowered)
        lane_add(&lane->lowered, 1);
}

/* What a byte costs before any was measured: a line through the usual ones. */
static double first_guess(enum codec_id id, int level)
{
    if (id == CODEC_BROTLI)
        return level < 2 ? 7 : level < 5 ? 15 : level < 10 ? 40 : 2000;
    if (id == CODEC_ZSTD)
        return level < 3 ? 4.5 : level < 6 ? 12 : level < 10 ? 30 : 300;
    return level < 3 ? 4 : level < 6 ? 9 : level < 9 ? 20 : 80;
}

static double *cost_of(struct compress *c, enum codec_id id, int level)
{
    int at = level - codec_level_min(id);
    return &c->ns_per_byte[id][at < COSTS ? at : COSTS - 1];
}

static void learn(struct compress *c, enum codec_id id, int level, size_t bytes, uint64_t ns)
{
    double *cost = cost_of(c, id, level);
    if (bytes >= LEARN_BYTES)
        *cost += ((double)ns / (double)bytes - *cost) / 8;
}

static uint64_t setting(const struct compress *c, enum setting_id id)
{
    return setting_integer(&c->board->settings, id);
}

/* How many times too long for the loop. */
static double too_long(const struct press *p, size_t bytes)
{
    double ns = *cost_of(p->c, p->verdict.id, p->verdict.level) * (double)bytes;
    double most = (double)setting(p->c, SETTING_COMPRESSION_INLINE_US) * 1000;
    return most > 0 ? ns / most : ns;
}

static void spent(struct press *p, uint64_t waited_ns, uint64_t cpu_ns)
{
    p->ex->phase_ns[PHASE_COMPRESS] += waited_ns;
    p->cpu_ns += cpu_ns;
}

/* ---- jobs ---- */

static void job_free(struct job *job)
{
    codec_stream_free(job->stream);
    buf_done(&job->in);
    buf_done(&job->out);
    free(job);
}

static void run_job(struct task *task, void *local)
{
    struct job *job = (struct job *)task;
    job->err = job->stream ? codec_stream_write(job->stream, buf_str(&job->in), job->flush, &job->out)
               : local     ? codec_compress(local, job->id, job->level, buf_str(&job->in), job->most, &job->out)
                           : ERR_NOMEM;
}

static void whole_over(struct press *p, struct job *job);
static void piece_over(struct press *p, struct job *job);

static void job_done(struct task *task)
{
    struct job *job = (struct job *)task;
    struct press *p = job->press;
    if (!p || task->outcome != TASK_DONE) {
        if (p)
            p->job = NULL;
        job_free(job);
        return;
    }
    struct compress *c = p->c;
    p->job = NULL;
    spent(p, c->io->now_ns > task->queued_ns ? c->io->now_ns - task->queued_ns : 0, task->cpu_ns);
    learn(c, job->id, job->level, buf_len(&job->in), task->cpu_ns);
    lane_add(&lane_of(p)->offloaded, 1);
    if (p->mode == MODE_WHOLE)
        whole_over(p, job);
    else
        piece_over(p, job);
}

static void *local_new(void)
{
    return codec_new();
}

static void local_free(void *local)
{
    codec_free(local);
}

static const struct task_class job_class = {
    .kind = TASK_COMPRESS, .run = run_job, .done = job_done, .local_new = local_new, .local_free = local_free};

/* Hands bytes to a thread; false: it has to be done here. */
static bool offload(struct press *p, struct str bytes, enum codec_flush flush, size_t most)
{
    struct compress *c = p->c;
    struct job *job;
    if (!setting(c, SETTING_TASKS_ENABLED) || !(job = calloc(1, sizeof *job)))
        return false;
    job->task = (struct task){.class = &job_class, .priority = TASK_NORMAL};
    job->press = p;
    job->id = p->verdict.id;
    job->level = p->verdict.level;
    job->flush = flush;
    job->most = most;
    bool given = bytes.p == buf_str(&p->body).p; /* gathered: it is ours to give away */
    if (given) {
        job->in = p->body;
        p->body = (struct buf){0};
    } else {
        buf_add_str(&job->in, bytes);
    }
    job->stream = p->stream;
    if (buf_ok(&job->in) && tasks_submit(c->tasks, &job->task, 0)) {
        p->job = job;
        p->stream = NULL; /* the thread's until it gives it back */
        return true;
    }
    job->stream = NULL;
    if (given) {
        p->body = job->in;
        job->in = (struct buf){0};
    }
    job_free(job);
    return false;
}

/* HEAD: what GET would say, as far as that is known without doing it. */
static bool is_head(const struct exchange *ex)
{
    return ex->head->method_id == METHOD_HEAD;
}

/* ---- whole bodies ---- */

static void pass_answer(struct press *p, const struct answer *answer, struct str body)
{
    struct answer out;
    p->mode = MODE_PASS;
    if (p->verdict.vary && !compress_head(p->ex, &p->verdict, false, answer, &out)) {
        filter_answer(p->ex, p->filter.next, answer, body);
        return;
    }
    out = p->verdict.vary ? out : *answer;
    out.length = (int64_t)body.len;
    filter_answer(p->ex, p->filter.next, &out, body);
}

/* What has been made may serve the answers to come; one that the load made lighter would stay so. */
static void keep(struct press *p, struct str coded)
{
    struct coded *place = p->ex->coded;
    if (place && p->verdict.level == p->verdict.full_level)
        place->keep(place, p->verdict.id, p->verdict.level, coded);
}

static void send_whole(struct press *p, const struct answer *head, struct str plain, struct str coded, int err)
{
    struct answer out;
    if (err || !compress_head(p->ex, &p->verdict, true, head, &out)) {
        count_skip(p, err == ERR_TOO_LARGE ? SKIP_NOT_SMALLER : SKIP_BUSY);
        lane_add(&coding_of(p)->cpu_ns, p->cpu_ns); /* spent for nothing */
        pass_answer(p, head, plain);
        return;
    }
    p->mode = MODE_PASS;
    p->bytes_in = plain.len;
    p->bytes_out = coded.len;
    count_body(p);
    if (!p->kept)
        keep(p, coded);
    out.length = (int64_t)coded.len;
    filter_answer(p->ex, p->filter.next, &out, coded);
}

struct whole { /* an answer as the application said it */
    struct press *press;
    const struct answer *answer;
    struct str body;
};

static void send_kept(void *user, struct str coded)
{
    const struct whole *w = user;
    struct press *p = w->press;
    p->kept = true;
    p->verdict.lowered = false;
    lane_add(&lane_of(p)->reused, 1);
    send_whole(p, w->answer, w->body, coded, 0);
}

/* Says an answer whose coded body is kept; that costs so little that no load stands against it. */
static bool send_from_keep(struct press *p, const struct answer *answer, struct str body)
{
    struct coded *place = p->ex->coded;
    struct whole whole = {p, answer, body};
    return place && (p->verdict.skip == SKIP_NOT || p->verdict.skip == SKIP_CPU) && !is_head(p->ex) &&
           place->find(place, p->verdict.id, p->verdict.full_level, send_kept, &whole);
}

static void whole_over(struct press *p, struct job *job)
{
    send_whole(p, &p->head, buf_str(&job->in), buf_str(&job->out), job->err);
    job_free(job);
}

/* What a compressed body may take: less than the plain one, unless that is refused. */
static size_t most_bytes(const struct press *p, size_t len)
{
    return p->verdict.needs_coding ? 0 : len > 1 ? len - 1 : 1;
}

static void whole_here(struct press *p, const struct answer *head, struct str body)
{
    struct compress *c = p->c;
    struct buf *out = &c->scratch;
    uint64_t began = io_now(c->io);
    buf_clear(out);
    int err = codec_compress(c->codec, p->verdict.id, p->verdict.level, body, most_bytes(p, body.len), out);
    uint64_t took = io_now(c->io) - began;
    spent(p, took, took);
    learn(c, p->verdict.id, p->verdict.level, body.len, took);
    send_whole(p, head, body, buf_str(out), err);
}

/* Compresses a whole body; `head` is kept already when `kept`. */
static void press_whole(struct press *p, const struct answer *head, struct str body, bool kept)
{
    double times = too_long(p, body.len);
    if (times > 1) {
        p->mode = MODE_WHOLE;
        if ((kept || compress_keep_head(p->ex, head, &p->head)) &&
            offload(p, body, CODEC_END, most_bytes(p, body.len)))
            return;
        if (times > INLINE_FACTOR && setting(p->c, SETTING_TASKS_ENABLED)) {
            count_skip(p, SKIP_BUSY);
            pass_answer(p, head, buf_len(&p->body) ? buf_str(&p->body) : body);
            return;
        }
        if (buf_len(&p->body))
            body = buf_str(&p->body);
    }
    whole_here(p, head, body);
}

static void judge(struct press *p, const struct answer *answer, int64_t length)
{
    struct compress *c = p->c;
    struct load load = {
        .cpu_share = atomic_load_explicit(&c->board->cpu_share, memory_order_relaxed),
        .lag_ns = atomic_load_explicit(&c->process->loop_lag_ns, memory_order_relaxed),
    };
    compress_judge(&p->verdict, p->ex, p->rules, &c->board->settings, &load, answer, length);
}

static void count_verdict(struct press *p)
{
    if (p->verdict.skip != SKIP_NOT)
        count_skip(p, p->verdict.skip);
}

static void begin_as(struct press *p, const struct answer *answer, bool coded)
{
    struct answer out;
    bool changed = coded || p->verdict.vary || p->verdict.weaken;
    p->mode = coded && !is_head(p->ex) ? MODE_STREAM : MODE_PASS;
    if (!changed || !compress_head(p->ex, &p->verdict, coded, answer, &out)) {
        filter_begin(p->ex, p->filter.next, answer);
        return;
    }
    if (coded)
        out.length = -1;
    filter_begin(p->ex, p->filter.next, &out);
}

static void on_answer(struct exchange *ex, struct filter *f, const struct answer *answer, struct str body)
{
    struct press *p = (struct press *)f;
    judge(p, answer, (int64_t)body.len);
    if (send_from_keep(p, answer, body))
        return;
    count_verdict(p);
    if (p->verdict.skip == SKIP_NOT && !is_head(ex)) {
        press_whole(p, answer, body, false);
        return;
    }
    if (!p->verdict.vary && !p->verdict.weaken) {
        filter_answer(ex, f->next, answer, body);
        return;
    }
    begin_as(p, answer, p->verdict.skip == SKIP_NOT);
    filter_send(ex, f->next, body);
    filter_end(ex, f->next);
}

/* ---- streams ---- */

static void fail(struct press *p)
{
    p->failed = true; /* cut off from a turn of its own: who sends now holds the exchange */
    wheel_set(&p->c->io->wheel, &p->timer, p->c->io->now_ms);
}

static void count_stream(struct press *p, size_t bytes)
{
    p->c->stream_bytes += bytes - p->stream_bytes;
    p->stream_bytes = bytes;
}

static void sent(struct press *p, struct str coded, enum codec_flush flush)
{
    if (coded.len)
        p->inside = 0;
    if (flush != CODEC_RUN)
        p->unflushed_ms = 0;
    p->bytes_out += coded.len;
    filter_send(p->ex, p->filter.next, coded);
}

/* What waits for a thread keeps the application waiting; less than a piece that
 * waits for more of itself does not. */
static void hold(struct press *p)
{
    p->filter.held_bytes = p->job ? buf_len(&p->body) + buf_len(&p->job->in) : 0;
}

/* Compresses bytes, here or by a thread; true when it was here. */
static bool feed(struct press *p, struct str bytes, enum codec_flush flush)
{
    struct compress *c = p->c;
    struct buf *out = &c->scratch;
    p->inside += bytes.len;
    if (too_long(p, p->inside) > 1 && offload(p, bytes, flush, 0))
        return false;
    if (!bytes.p || bytes.p != buf_str(&p->body).p)
        bytes = bytes.len && buf_len(&p->body) ? buf_str(&p->body) : bytes;
    uint64_t began = io_now(c->io);
    buf_clear(out);
    int err = codec_stream_write(p->stream, bytes, flush, out);
    uint64_t took = io_now(c->io) - began;
    spent(p, took, took);
    count_stream(p, codec_stream_bytes(p->stream));
    if (err || !buf_ok(out)) {
        fail(p);
        return true;
    }
    sent(p, buf_str(out), flush);
    buf_clear(&p->body);
    return true;
}

/* Does what waits. The exchange may be gone after it. */
static void advance(struct press *p)
{
    while (!p->job && !p->failed) {
        enum codec_flush flush = p->ended ? CODEC_END : p->flush_wanted ? CODEC_FLUSH : CODEC_RUN;
        if (flush == CODEC_RUN && buf_len(&p->body) < PIECE_BYTES)
            break;
        p->flush_wanted = false;
        if (!feed(p, buf_str(&p->body), flush))
            break;
        if (flush == CODEC_END && !p->failed) {
            count_body(p);
            filter_end(p->ex, p->filter.next);
            return;
        }
    }
    hold(p);
    filter_flush(p->ex, p->filter.next);
}

static void piece_over(struct press *p, struct job *job)
{
    struct buf out = job->out;
    enum codec_flush flush = job->flush;
    bool ok = !job->err && buf_ok(&out);
    p->stream = job->stream;
    job->stream = NULL;
    job->out = (struct buf){0};
    job_free(job);
    if (!ok) {
        buf_done(&out);
        fail(p);
        return;
    }
    count_stream(p, codec_stream_bytes(p->stream));
    sent(p, buf_str(&out), flush);
    buf_done(&out);
    if (flush == CODEC_END) {
        count_body(p);
        filter_end(p->ex, p->filter.next);
        return;
    }
    advance(p);
}

static bool open_stream(struct press *p, const struct answer *answer)
{
    struct codec_stream_opts opts = {
        .id = p->verdict.id,
        .level = p->verdict.level,
        .size_bytes = answer->length > 0 ? (uint64_t)answer->length : 0,
        .small = p->verdict.events,
    };
    if (p->c->stream_bytes < setting(p->c, SETTING_COMPRESSION_STREAM_BYTES))
        p->stream = codec_stream_new(&opts);
    if (!p->stream) {
        count_skip(p, SKIP_BUSY);
        return false;
    }
    count_stream(p, codec_stream_bytes(p->stream));
    return true;
}

/* What was gathered goes on as a stream, or as it is when there can be none. */
static void turn_to_stream(struct press *p)
{
    struct str gathered = buf_str(&p->body);
    begin_as(p, &p->head, open_stream(p, &p->head));
    p->bytes_in = gathered.len;
    if (p->mode == MODE_STREAM && gathered.len) {
        p->unflushed_ms = p->c->io->now_ms;
        feed(p, gathered, CODEC_RUN);
    } else if (gathered.len) {
        filter_send(p->ex, p->filter.next, gathered);
        buf_clear(&p->body);
    }
}

static void on_begin(struct exchange *ex, struct filter *f, const struct answer *answer)
{
    struct press *p = (struct press *)f;
    judge(p, answer, answer->length);
    count_verdict(p);
    uint64_t most = setting(p->c, SETTING_COMPRESSION_GATHER_BYTES);
    bool fits = answer->length < 0 || (uint64_t)answer->length <= most;
    if (p->verdict.skip != SKIP_NOT)
        begin_as(p, answer, false);
    else if (is_head(ex))
        begin_as(p, answer, answer->length > 0);
    else if (!p->verdict.events && fits && most && compress_keep_head(ex, answer, &p->head))
        p->mode = MODE_GATHER;
    else
        begin_as(p, answer, open_stream(p, answer));
}

static void gather(struct press *p, struct str bytes)
{
    if (buf_len(&p->body) + bytes.len <= setting(p->c, SETTING_COMPRESSION_GATHER_BYTES)) {
        buf_add_str(&p->body, bytes);
        if (!buf_ok(&p->body))
            fail(p);
        return;
    }
    turn_to_stream(p);
    p->filter.ops->send(p->ex, &p->filter, bytes);
}

/* Bytes of a stream. */
static void take(struct press *p, struct str bytes)
{
    p->bytes_in += bytes.len;
    if (!p->unflushed_ms)
        p->unflushed_ms = p->c->io->now_ms;
    if (!p->job && !buf_len(&p->body) && bytes.len >= PIECE_BYTES) {
        feed(p, bytes, CODEC_RUN);
    } else {
        buf_add_str(&p->body, bytes);
        if (!buf_ok(&p->body))
            fail(p);
        else if (!p->job && buf_len(&p->body) >= PIECE_BYTES)
            feed(p, buf_str(&p->body), CODEC_RUN);
    }
    hold(p);
}

static void on_send(struct exchange *ex, struct filter *f, struct str bytes)
{
    struct press *p = (struct press *)f;
    if (p->mode == MODE_PASS) {
        filter_send(ex, f->next, bytes);
    } else if (p->failed || !bytes.len) {
        return;
    } else if (p->mode == MODE_GATHER) {
        gather(p, bytes);
    } else {
        take(p, bytes);
    }
}

/* Flushes when nothing follows for a while, or when it has gone on for long. */
static void flush_later(struct press *p)
{
    uint64_t now = p->c->io->now_ms;
    uint64_t at = now + setting(p->c, SETTING_COMPRESSION_FLUSH_MS);
    if (!p->unflushed_ms)
        p->unflushed_ms = now;
    if (at > p->unflushed_ms + FLUSH_MOST_MS)
        at = p->unflushed_ms + FLUSH_MOST_MS;
    wheel_set(&p->c->io->wheel, &p->timer, at > now ? at : now);
}

static void on_flush(struct exchange *ex, struct filter *f)
{
    struct press *p = (struct press *)f;
    if (p->mode == MODE_GATHER || (p->mode == MODE_STREAM && !p->verdict.events && p->unflushed_ms))
        flush_later(p);
    if (p->mode == MODE_STREAM && p->verdict.events && !p->failed) {
        p->flush_wanted = p->unflushed_ms != 0;
        advance(p);
        return;
    }
    filter_flush(ex, f->next);
}

static void on_timer(struct timer *t)
{
    struct press *p = (struct press *)((char *)t - offsetof(struct press, timer));
    if (p->failed) {
        if (p->ex->answer != ANSWER_ENDED)
            exchange_gone(p->ex);
        exchange_abort(p->ex);
        return;
    }
    io_now(p->c->io);
    if (p->mode == MODE_GATHER)
        turn_to_stream(p);
    if (p->mode != MODE_STREAM) {
        filter_flush(p->ex, p->filter.next);
        return;
    }
    p->flush_wanted = p->unflushed_ms != 0;
    advance(p);
}

static void end_gathered(struct press *p)
{
    struct str body = buf_str(&p->body);
    if ((body.len < compress_min_bytes(p->rules, &p->c->board->settings) && !p->verdict.needs_coding) || !body.len) {
        count_skip(p, SKIP_SMALL);
        p->verdict.vary = false;
        pass_answer(p, &p->head, body);
        return;
    }
    press_whole(p, &p->head, body, true);
}

static void on_finish(struct exchange *ex, struct filter *f)
{
    struct press *p = (struct press *)f;
    wheel_clear(&p->timer);
    p->ended = true;
    if (p->failed)
        fail(p);
    else if (p->mode == MODE_PASS)
        filter_end(ex, f->next);
    else if (p->mode == MODE_GATHER)
        end_gathered(p);
    else
        advance(p);
}

static void on_done(struct exchange *ex, struct filter *f)
{
    struct press *p = (struct press *)f;
    struct job *job = p->job;
    (void)ex;
    wheel_clear(&p->timer);
    count_stream(p, 0);
    if (job) {
        job->press = NULL; /* it ends by itself, unless no thread has begun it */
        if (tasks_cancel(p->c->tasks, &job->task))
            job_free(job);
    }
    codec_stream_free(p->stream);
    buf_done(&p->body);
    compress_rules_put(p->rules);
}

static const struct filter_ops ops = {
    .begin = on_begin, .send = on_send, .flush = on_flush, .end = on_finish, .answer = on_answer, .done = on_done};

/* ---- life ---- */

void compress_push(struct compress *c, struct exchange *ex, struct compress_rules *rules)
{
    struct press *p;
    if (!setting(c, SETTING_COMPRESSION_ENABLED) || !(p = arena_alloc(ex->arena, sizeof *p)))
        return;
    *p = (struct press){.filter = {.ops = &ops}, .c = c, .rules = rules, .ex = ex,
                        .timer = {.on_fire = on_timer}};
    rules->references++;
    filter_push(ex, &p->filter);
}

struct compress *compress_new(const struct compress_opts *opts)
{
    struct compress *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->io = opts->io;
    c->board = opts->board;
    c->process = opts->process;
    c->lane = opts->lane;
    for (enum codec_id id = CODEC_GZIP; id < CODEC_COUNT; id++)
        for (int at = 0; at < COSTS; at++)
            c->ns_per_byte[id][at] = first_guess(id, codec_level_min(id) + at);
    c->codec = codec_new();
    c->tasks = opts->tasks;
    if (c->codec)
        return c;
    free(c);
    return NULL;
}

void compress_free(struct compress *c)
{
    codec_free(c->codec);
    buf_done(&c->scratch);
    free(c);
}
